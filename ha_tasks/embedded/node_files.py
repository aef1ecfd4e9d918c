"""What the PostgreSQL nodes and the host agents read: configuration, password file, agent.toml."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ha_tasks.adapters.postgres_conf import (
    available_preload,
    render_pg_hba,
    render_postgresql_conf,
    reserved_for_agents,
)
from ha_tasks.embedded.binaries import Binary
from ha_tasks.embedded.home import Home
from ha_tasks.embedded.inventory import SITE, WEB
from ha_tasks.embedded.layout import agent_of, hosts_of, nodes_of
from ha_tasks.embedded.ports import BALANCER, LOOPBACK
from ha_tasks.embedded.secret_files import read, write_private
from ha_tasks.embedded.unprivileged import Way, give

AGENT_ROLE = "ha_agent"
REPLICATION_ROLE = "ha_repl"
SITE_CONF = '{"greeting": "hello"}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFiles:
    """Writes every file below ``conf`` of the nodes and of the agents; each method is idempotent."""

    home: Home
    ports: Mapping[str, int]
    binary: Binary
    way: Way
    major: int = 18
    """Version of PostgreSQL."""

    def write(self) -> None:
        """All of them."""
        for node in nodes_of(self.ports):
            self._write_node(node)
        for host in hosts_of(self.ports):
            write_private(self.agent_toml(host), "\n".join(self._agent(host)))
        if not self.home.site_conf.exists():
            write_private(self.home.site_conf, SITE_CONF)

    def agent_toml(self, host: str) -> Path:
        """The configuration of a host's agent."""
        return self.home.conf / f"{agent_of(host)}.toml"

    def _write_node(self, node: str) -> None:
        conf_dir = self.home.conf_dir(node)
        for directory in (self.home.node_dir(node), conf_dir):
            directory.mkdir(mode=0o700, exist_ok=True)
            give(directory, self.way)
        settings = render_postgresql_conf(
            node=node,
            port=self.ports[node],
            data_dir=self.home.data_dir(node),
            conf_dir=conf_dir,
            preload=available_preload(self.binary.directory),
            extra={**reserved_for_agents(self.major), **self._room()},
        )
        texts = {
            "postgresql.conf": settings,
            "pg_hba.conf": render_pg_hba(
                networks=(f"{LOOPBACK}/32", f"{BALANCER}/32"), replication_user=REPLICATION_ROLE
            ),
            "pg_ident.conf": "",
            "passfile": self._passfile(),
        }
        for name, text in texts.items():
            write_private(conf_dir / name, text)
            give(conf_dir / name, self.way)

    def _room(self) -> Mapping[str, str]:
        """Each standby streams through a slot, and at the first start all take base backups at once."""
        nodes = len(nodes_of(self.ports))
        return {"max_wal_senders": f"{max(10, 3 * nodes)}", "max_replication_slots": f"{max(10, 2 * nodes)}"}

    def _passfile(self) -> str:
        secrets = {REPLICATION_ROLE: "pg-replication", AGENT_ROLE: "pg-agent"}
        return "".join(
            f"{LOOPBACK}:*:*:{role}:{read(self.home.secret(name))}\n" for role, name in secrets.items()
        )

    def _agent(self, host: str) -> Iterator[str]:
        yield "# Written at each start of `ha-tasks demo`."
        yield "schema = 1"
        yield f"host = {_toml(host)}"
        yield f'listen = "{LOOPBACK}:{self.ports[agent_of(host)]}"'
        yield f"state_dir = {_toml(self.home.agents / host)}"
        yield f"run_as = {_toml(list(self.way.prefix))}"
        yield f"key = {{ file = {_toml(self.home.secret('agent-key'))} }}"
        if host in nodes_of(self.ports):
            yield from self._agent_of_node(host)
        else:
            for unit in WEB:
                yield from self._unit(unit)
            yield from self._site()
        yield ""

    def _agent_of_node(self, node: str) -> Iterator[str]:
        yield "[postgres]"
        yield f"node = {_toml(node)}"
        yield f"bin_dir = {_toml(self.binary.directory)}"
        yield f"data_dir = {_toml(self.home.data_dir(node))}"
        yield f"conf_dir = {_toml(self.home.conf_dir(node))}"
        yield f'address = "{LOOPBACK}:{self.ports[node]}"'
        yield f"user = {_toml(AGENT_ROLE)}"
        yield f"password = {{ file = {_toml(self.home.secret('pg-agent'))} }}"
        yield f"replication_user = {_toml(REPLICATION_ROLE)}"
        yield f"passfile = {_toml(self.home.conf_dir(node) / 'passfile')}"
        yield f"log = {_toml(self.home.log_of(node))}"
        yield "[postgres.peers]"
        for peer in nodes_of(self.ports):
            if peer != node:
                yield f'{peer} = "{LOOPBACK}:{self.ports[peer]}"'

    def _site(self) -> Iterator[str]:
        """The services look by themselves whether it was exchanged, so nobody has to be told."""
        check = [sys.executable, "-m", "json.tool", "{}", os.devnull]
        yield f"[files.{SITE}]"
        yield f"path = {_toml(self.home.site_conf)}"
        yield f"staged = {_toml(self.home.site_conf.with_suffix('.json.next'))}"
        yield f"check = {_toml(check)}"
        yield 'reload = ["true"]'

    def _unit(self, unit: str) -> Iterator[str]:
        arguments = ["--name", unit, "--port", str(self.ports[unit])]
        pid_file = str(self.home.run / f"{unit}.pid")
        module = [sys.executable, "-m", "ha_tasks.embedded.web"]
        yield f"[units.{unit}]"
        conf = ["--pid-file", pid_file, "--conf", str(self.home.site_conf)]
        yield f"command = {_toml([*module, *arguments, *conf])}"
        yield f"cwd = {_toml(self.home.run)}"
        yield f"log = {_toml(self.home.log_of(unit))}"
        yield "autostart = true"


def _toml(value: str | Path | list[str]) -> str:
    """What JSON escapes, TOML escapes in the same way."""
    return json.dumps(value if isinstance(value, list) else str(value), ensure_ascii=False)
