"""A real agent refuses whatever is not exactly a fresh, genuine, allowed command for what is its own."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ha_tasks.adapters.agent_signing import (
    NONCE_HEADER,
    SIGNATURE_HEADER,
    SKEW_S,
    TIMESTAMP_HEADER,
    signed_request,
)
from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.embedded.binaries import resolve
from ha_tasks.errors import AgentUnreachable
from tests.integration.agent_nodes import KEY, AgentProcess, end_units, free_ports
from workers.agent.verbs import KEEP_FILE, NODE_VERBS, PUT_FILE, UNIT_VERB, VERBS

HIGH = {"epoch": 7, "fence": 70}
ARGUMENTS = {"upstream": "pg2", "sync_setting": "", "job": "j", "key": "k", "slot": "ha_pg9"}
WRITES = sorted(VERBS)
every_verb = pytest.mark.parametrize("verb", WRITES)
every_fenced_verb = pytest.mark.parametrize("verb", sorted(VERBS - {KEEP_FILE}))
"""To keep what a file holds changes nothing that is served, and needs no fence."""


@dataclass
class Asked:
    """An agent with a node (no data yet), a unit, and a file that says what it may do."""

    home: Path
    port: int
    process: AgentProcess

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def command(
        self, path: str, body: dict[str, object], *, key: bytes = KEY
    ) -> tuple[int, dict[str, object]]:
        content = json.dumps(body).encode()
        return self.ask("POST", path, content, signed_request(key, method="POST", path=path, body=content))

    def footprints(self) -> dict[str, str]:
        """What every effect would leave: ledger, node's memory, jobs, units, data."""
        files = [p for d in ("state", "data", "conf") for p in (self.home / d).rglob("*") if p.is_file()]
        return {str(p): p.read_text(errors="replace") for p in files}


def path_of(verb: str, *, node: str = "pg1", host: str = "db1") -> str:
    of_the_host = {UNIT_VERB: "units/web1/restart", KEEP_FILE: "files/conf/keep", PUT_FILE: "files/conf/put"}
    return f"/v1/hosts/{host}/{of_the_host[verb]}" if verb in of_the_host else f"/v1/nodes/{node}/{verb}"


def body_of(verb: str, *, epoch: int = 8, fence: int = 80) -> dict[str, object]:
    if verb == UNIT_VERB:
        return {"key": "k", "fence": fence, "timeout_s": 2.0}
    if verb == KEEP_FILE:
        return {"staged": False}
    if verb == PUT_FILE:
        return {"digest": "0" * 64, "key": "k", "fence": fence, "timeout_s": 2.0}
    arguments = {name: ARGUMENTS[name] for name in NODE_VERBS[verb]}
    return {"epoch": epoch, "fence": fence, "timeout_s": 2.0, **arguments}


def started(home: Path, allow: str = "") -> Asked:
    """It has obeyed epoch 7, fence 70 before."""
    (port,) = free_ports(1)
    for name in ("conf", "state"):
        (home / name).mkdir()
    for name in ("key", "password", "passfile"):
        (home / name).write_text(KEY.decode())
        (home / name).chmod(0o600)
    (home / "state" / "ledger.json").write_text(json.dumps(HIGH))
    (home / "state" / "units").mkdir()
    (home / "state" / "units" / "web1.fence").write_text(json.dumps({"fence": 70}))
    (home / "state" / "files").mkdir()
    (home / "state" / "files" / "conf.json").write_text(json.dumps({"fence": 70}))
    (home / "served.conf").write_text("served")
    (home / "agent.toml").write_text(
        f'schema = 1\nhost = "db1"\nlisten = "127.0.0.1:{port}"\nkey = {{ file = "key" }}\n'
        f'state_dir = "state"\n{allow}\n'
        f'[postgres]\nnode = "pg1"\nbin_dir = "{resolve("postgres").directory}"\ndata_dir = "data"\n'
        'conf_dir = "conf"\naddress = "127.0.0.1:1"\nuser = "ha_agent"\npassword = { file = "password" }\n'
        'replication_user = "ha_repl"\npassfile = "passfile"\n[postgres.peers]\npg2 = "127.0.0.1:2"\n'
        '[units.web1]\ncommand = ["sleep", "600"]\n[files.conf]\npath = "served.conf"\nreload = ["true"]\n'
    )
    made = Asked(home=home, port=port, process=AgentProcess(home / "agent.toml", f"http://127.0.0.1:{port}"))
    made.process.start()
    return made


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    made = started(tmp_path_factory.mktemp("agent"))
    yield made
    made.process.kill()
    end_units(made.home)


@pytest.fixture(autouse=True)
def nothing_happened(agent: Asked) -> Iterator[None]:
    before = agent.footprints()
    yield
    assert agent.footprints() == before


@every_verb
def test_a_request_without_a_signature_is_refused(agent: Asked, verb: str) -> None:
    assert agent.ask("POST", path_of(verb), json.dumps(body_of(verb)).encode())[0] == 401


@every_verb
def test_a_signature_of_another_key_is_refused(agent: Asked, verb: str) -> None:
    assert agent.command(path_of(verb), body_of(verb), key=b"another key of sixteen")[0] == 401


def test_who_is_refused_is_told_that_it_is_not_the_clock(agent: Asked) -> None:
    agents = HostAgents(urls={"db1": f"http://127.0.0.1:{agent.port}"}, hosts={"pg1": "db1"}, key=b"k" * 16)

    with pytest.raises(AgentUnreachable, match="it has another key"):
        agents.status("pg1", timeout_s=5.0)


@pytest.mark.parametrize("body", [{}, {"epoch": 8}, {"epoch": 8, "primary": "pg2", "steady": 1}])
def test_a_standing_that_is_not_whole_is_refused(agent: Asked, body: dict[str, object]) -> None:
    assert agent.command("/v1/nodes/pg1/standing", body)[0] == 409


@every_fenced_verb
def test_a_request_that_comes_again_is_refused(agent: Asked, verb: str) -> None:
    """The first is genuine, and stale: it is refused for that; the copy is not even looked at."""
    path, content = path_of(verb), json.dumps(body_of(verb, epoch=6, fence=60)).encode()
    headers = signed_request(KEY, method="POST", path=path, body=content)

    assert agent.ask("POST", path, content, headers)[0] == 409
    assert agent.ask("POST", path, content, headers)[0] == 401


@every_verb
@pytest.mark.parametrize("late_s", [-SKEW_S - 5, SKEW_S + 5])
def test_a_request_from_the_past_or_the_future_is_refused(agent: Asked, verb: str, late_s: float) -> None:
    path, content = path_of(verb), json.dumps(body_of(verb)).encode()
    headers = signed_request(KEY, method="POST", path=path, body=content, now=lambda: time.time() + late_s)

    assert agent.ask("POST", path, content, headers)[0] == 401


@every_verb
def test_a_body_signed_for_another_route_is_refused(agent: Asked, verb: str) -> None:
    another = path_of("fence" if verb != "fence" else "revoke")
    content = json.dumps(body_of(verb)).encode()
    headers = signed_request(KEY, method="POST", path=another, body=content)

    assert agent.ask("POST", path_of(verb), content, headers)[0] == 401


@every_fenced_verb
def test_a_body_that_was_changed_is_refused(agent: Asked, verb: str) -> None:
    path, content = path_of(verb), json.dumps(body_of(verb)).encode()
    headers = signed_request(KEY, method="POST", path=path, body=content)

    assert agent.ask("POST", path, content.replace(b"80", b"81"), headers)[0] == 401


@every_verb
@pytest.mark.parametrize("header", [TIMESTAMP_HEADER, NONCE_HEADER, SIGNATURE_HEADER])
def test_a_request_that_lacks_a_header_is_refused(agent: Asked, verb: str, header: str) -> None:
    path, content = path_of(verb), json.dumps(body_of(verb)).encode()
    headers = signed_request(KEY, method="POST", path=path, body=content)
    del headers[header]

    assert agent.ask("POST", path, content, headers)[0] == 401


@every_verb
def test_a_command_for_another_host_is_refused(agent: Asked, verb: str) -> None:
    status, answer = agent.command(path_of(verb, node="pg2", host="db2"), body_of(verb))

    assert (status, answer["reason"]) == (409, "agent_refused")
    assert "this is the agent of" in str(answer["detail"])


@every_fenced_verb
@pytest.mark.parametrize(("epoch", "fence"), [(6, 999), (7, 69), (0, 0)])
def test_a_command_under_a_lower_epoch_or_fence_is_refused(
    agent: Asked, verb: str, epoch: int, fence: int
) -> None:
    stale = body_of(verb, epoch=epoch, fence=min(fence, 69) if verb in (UNIT_VERB, PUT_FILE) else fence)

    status, answer = agent.command(path_of(verb), stale)

    assert (status, answer["reason"]) == (409, "stale_authority")


@every_fenced_verb
@pytest.mark.parametrize(
    "wrong", [{"fence": None}, {"fence": "80"}, {"fence": -1}, {"fence": True}, {"x": 1}]
)
def test_a_command_without_a_fence_or_with_more_than_it_takes_is_refused(
    agent: Asked, verb: str, wrong: dict[str, object]
) -> None:
    body = {name: value for name, value in (body_of(verb) | wrong).items() if value is not None}

    assert agent.command(path_of(verb), body)[0] == 409


@every_verb
def test_a_body_that_is_too_large_is_refused_unread(agent: Asked, verb: str) -> None:
    path, content = path_of(verb), json.dumps(body_of(verb) | {"x": "y" * 70_000}).encode()
    headers = signed_request(KEY, method="POST", path=path, body=content)

    assert agent.ask("POST", path, content, headers)[0] == 413


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nodes/pg1/drop_database", "/v1/nodes/pg1/__class__", "/v1/nodes/pg1/status", "/v1/nodes/pg1/job",
        "/v1/nodes/pg1/_promote", "/v1/nodes/pg1", "/v1/hosts/db1/units/web1/stop",
        "/v1/hosts/db1/units/web1",
        "/v1/hosts/db1/units/other/restart", "/v1/hosts/db1/units/..%2f..%2fx/restart", "/v2/nodes/pg1/fence",
        "/", "/v1/nodes/pg1/fence/now", "/v1/nodes/pg1/fence?x=1",
    ],
)  # fmt: skip
def test_what_is_no_verb_of_its_own_is_refused_though_it_is_signed(agent: Asked, path: str) -> None:
    body = body_of(UNIT_VERB) if "units" in path else body_of("fence")

    status, answer = agent.command(path, body)

    assert (status, answer["reason"]) == (409, "agent_refused")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_other_methods_do_not_exist(agent: Asked, method: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=10)
    try:
        connection.request(
            method,
            path_of("fence"),
            b"{}",
            signed_request(KEY, method=method, path=path_of("fence"), body=b"{}"),
        )
        assert connection.getresponse().status == 501
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/v1/nodes/pg1", "/v1/nodes/pg1/jobs/j", "/v1/hosts/db1/units/web1"])
def test_reading_asks_for_a_signature_too(agent: Asked, path: str) -> None:
    assert agent.ask("GET", path)[0] == 401
    assert agent.ask("GET", path, headers=signed_request(KEY, method="GET", path=path, body=b""))[0] == 200


@pytest.mark.parametrize("sync_setting", ["ANY 1 (*)", "pg2'; DROP TABLE x; --", "a = b"])
def test_a_synchronous_set_of_everybody_or_of_more_than_names_is_refused(
    agent: Asked, sync_setting: str
) -> None:
    for verb in ("promote", "set_sync", "start_primary"):
        status, _ = agent.command(path_of(verb), body_of(verb) | {"sync_setting": sync_setting})
        assert status == 409


@pytest.mark.parametrize("upstream", ["pg9", "127.0.0.1:5432", "pg2 user=postgres"])
def test_an_agent_follows_nobody_who_is_not_in_its_own_file(agent: Asked, upstream: str) -> None:
    """The command names a peer; where that is says the agent's file, never the command."""
    status, _ = agent.command(path_of("rejoin"), body_of("rejoin") | {"upstream": upstream})

    assert status == 409


def test_a_new_key_is_taken_with_a_restart_that_leaves_running_what_runs(tmp_path: Path) -> None:
    made = started(tmp_path)
    path = "/v1/hosts/db1/units/web1"
    try:
        _, before = made.command(f"{path}/restart", body_of(UNIT_VERB))
        (tmp_path / "key").write_text("a new key of sixteen bytes")
        made.process.kill()
        made.process.start()
        new = signed_request(b"a new key of sixteen bytes", method="GET", path=path, body=b"")
        old = signed_request(KEY, method="GET", path=path, body=b"")

        assert made.ask("GET", path, headers=old)[0] == 401
        assert made.ask("GET", path, headers=new)[1]["pid"] == before["pid"]
    finally:
        made.process.kill()
        end_units(tmp_path)


def test_an_agent_does_only_what_its_file_allows(tmp_path: Path) -> None:
    made = started(tmp_path, 'allow = ["fence"]')
    try:
        answers = {verb: made.command(path_of(verb), body_of(verb)) for verb in WRITES}
    finally:
        made.process.kill()
        end_units(tmp_path)

    assert answers.pop("fence")[0] == 200
    assert {status for status, _ in answers.values()} == {409}
    assert all("not allowed on db1; add it to allow" in str(said["detail"]) for _, said in answers.values())
