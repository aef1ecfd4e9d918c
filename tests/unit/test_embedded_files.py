"""What the stack writes is understood by those who read it, also in a path with blanks and quotes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from ha_tasks.embedded import home as homes
from ha_tasks.embedded import inventory, secret_files, state, valkey
from ha_tasks.embedded.binaries import Binary
from ha_tasks.embedded.haproxy import Edge, default_closed, render, runtime_socket
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import WEB
from ha_tasks.embedded.layout import DEFAULT_STANDBYS, hosts_of, node_names
from ha_tasks.embedded.node_files import NodeFiles
from ha_tasks.embedded.ports import DEFAULTS
from ha_tasks.embedded.supervisor import Running
from ha_tasks.embedded.unprivileged import Way
from ha_tasks.errors import Unreachable
from ha_tasks.inventory.loading import read as read_inventory
from workers.agent.config import AgentConfig, load_config

NODES = node_names(DEFAULT_STANDBYS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = homes.home_at(tmp_path / 'it\'s a "home"')
    homes.prepare(made)
    made.nodes.mkdir()
    secret_files.ensure(made.secrets)
    return made


def agent_config(home: Home, host: str) -> AgentConfig:
    binary = Binary(name="postgres", path=Path("/usr/lib/postgresql/18/bin/postgres"), source="test")
    files = NodeFiles(home=home, ports=DEFAULTS, binary=binary, way=Way(description="direct"))
    files.write()
    return load_config(files.agent_toml(host))


def edge(socket: str = "tcp://127.0.0.1:8405") -> Edge:
    return Edge(
        socket=socket,
        ports=DEFAULTS,
        web={name: DEFAULTS[name] for name in WEB},
        nodes={name: DEFAULTS[name] for name in NODES},
        closed=default_closed(WEB, NODES, "pg1"),
    )


def backend(name: str) -> list[str]:
    """The lines of a backend in haproxy.cfg."""
    text = render(edge())
    return [line.strip() for line in text.split(f"\nbackend {name}\n")[1].split("\n\n")[0].splitlines()]


@pytest.mark.parametrize("socket", ["tcp://127.0.0.1:8405", "unix:///tmp/a home/run/haproxy.sock"])
def test_the_inventory_is_read_without_a_fault_or_a_warning(home: Home, socket: str):
    home.inventory.write_text(inventory.render(DEFAULTS, socket))

    reading = read_inventory(home.inventory, {})

    assert (reading.faults, reading.warnings) == ((), ())
    assert reading.inventory
    assert set(reading.inventory.platform.hosts) == set(hosts_of(DEFAULTS))
    assert reading.inventory.platform.balancers["edge"].socket == socket


@pytest.mark.parametrize("node", NODES)
def test_an_agent_of_a_node_understands_its_file(home: Home, node: str):
    config = agent_config(home, node)

    assert config.postgres
    assert config.postgres.data_dir == home.data_dir(node)
    assert set(config.postgres.peers) == set(NODES) - {node}
    assert stat.S_IMODE(config.postgres.passfile.stat().st_mode) == 0o600


def test_the_agent_of_the_application_host_has_the_web_services(home: Home):
    config = agent_config(home, "app")

    assert set(config.units) == set(WEB)
    assert all(unit.autostart for unit in config.units.values())


def test_no_secret_stands_in_a_file_that_others_may_read(home: Home):
    agent_config(home, "pg1")
    valkey.write_broker_conf(
        home.conf / "broker.conf",
        port=1,
        directory=home.root / "broker",
        password_files={"ha_control": home.secret("broker")},
    )
    secrets = [secret_files.read(path) for path in home.secrets.iterdir()]
    telling = [
        path
        for path in home.root.rglob("*")
        if path.is_file() and any(secret in path.read_text() for secret in secrets)
    ]

    assert telling
    assert {stat.S_IMODE(path.stat().st_mode) for path in telling} == {0o600}


@pytest.mark.parametrize(
    ("directory", "socket"),
    [
        ("/home/me/.ha/run", "unix:///home/me/.ha/run/haproxy.sock"),
        ("/home/me/a home/run", "unix:///home/me/a home/run/haproxy.sock"),
        ("/home/" + "long/" * 20, "tcp://127.0.0.1:8405"),
        ("/home/me/a,b/run", "tcp://127.0.0.1:8405"),
    ],
)
def test_the_runtime_api_is_private_to_the_user_wherever_a_socket_fits(directory: str, socket: str):
    assert runtime_socket(Path(directory), 8405) == socket


def test_only_safe_methods_are_sent_twice_and_running_requests_are_not_cut():
    lines = backend("web")

    assert "http-request disable-l7-retry if !METH_GET" in lines
    assert "retry-on all-retryable-errors" in lines
    assert not any("shutdown-sessions" in line for line in lines)


@pytest.mark.parametrize("name", ["pg_write", "pg_read"])
def test_no_client_of_the_database_waits_for_a_dead_server(name: str):
    lines = backend(name)

    assert "retries 0" in lines
    assert any("on-marked-down shutdown-sessions" in line for line in lines)


def test_writes_begin_at_the_primary_alone_and_reads_at_the_standbys():
    ready = {
        name: [
            line.split()[1] for line in backend(name) if line.startswith("server ") and "disabled" not in line
        ]
        for name in ("web", "pg_write", "pg_read")
    }

    assert ready == {"web": ["web1", "web2"], "pg_write": ["pg1"], "pg_read": ["pg2", "pg3"]}


def test_the_record_is_private_and_read_back_as_it_was_written(home: Home):
    written = state.State(
        endpoints=state.endpoints(home, DEFAULTS),
        nodes=state.nodes(home, DEFAULTS, {"agent-pg1": 42}),
        processes=(Running(name="broker", kind="broker", pid=7),),
    )
    state.write(home, written)
    found = json.loads(home.state.read_text())

    assert stat.S_IMODE(home.state.stat().st_mode) == 0o600
    assert found["schema"] == 1
    assert found["nodes"]["pg1"]["agent_pid"] == 42
    assert found["endpoints"]["pg_write"].startswith("postgresql://app:")
    assert found["processes"] == [{"name": "broker", "kind": "broker", "pid": 7}]
    assert state.load(home) == written


def test_without_a_running_stack_there_is_no_record(home: Home):
    with pytest.raises(Unreachable, match="start one with `ha-tasks demo"):
        state.load(home)
