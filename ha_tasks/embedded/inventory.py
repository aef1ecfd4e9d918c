"""The inventory of the demo platform: ha-tasks.toml in the home, written anew at each start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ha_tasks.embedded.layout import agent_of, hosts_of, nodes_of
from ha_tasks.embedded.ports import LOOPBACK
from ha_tasks.embedded.valkey import CONTROL_USER

WEB = ("web1", "web2", "web3")
SPARE = "web3"
SITE = "site"
"""The file that the web services are served from."""

CLUSTER = "db"
DATABASE = "app"
APP_ROLE = "app"
CONTROL_ROLE = "ha_control"


def render(ports: Mapping[str, int], socket: str) -> str:
    """The text of ha-tasks.toml; ``socket`` is HAProxy's runtime API."""
    return "\n".join((_top(ports), *_hosts(ports), _edge(socket), _web(ports), _db(ports), _cache(ports)))


def _top(ports: Mapping[str, int]) -> str:
    return f"""\
# Written at each start of `ha-tasks demo`: a change here is lost. For a platform of your own:
# `ha-tasks init`. To change a value for once: HA_TASKS__POLICIES__LEASE_S=5 ha-tasks demo
schema = 1

[platform]
name = "demo"

[store]
url = "sqlite:///ha.db"

[broker]
url = "redis://{CONTROL_USER}@{_at(ports["broker"])}/0"
password = {{ file = "secrets/broker" }}

[agents]
key = {{ file = "secrets/agent-key" }}

[metrics]
listen = "{_at(ports["metrics"])}"
"""


def _hosts(ports: Mapping[str, int]) -> Iterator[str]:
    for host in hosts_of(ports):
        yield f'[hosts.{host}]\nagent = "http://{_at(ports[agent_of(host)])}"\n'


def _edge(socket: str) -> str:
    # What JSON escapes, TOML escapes in the same way.
    return f"[balancers.edge]\nsocket = {json.dumps(socket, ensure_ascii=False)}\n"


def _web(ports: Mapping[str, int]) -> str:
    head = f"""\
[services.web]
kind = "http"
tier = "high"
rto_s = 30
rpo_s = 0

[services.web.check]
path = "/healthz"
expect_status = 200
interval_s = 0.5
timeout_s = 0.5

[services.web.routing]
backend = "web"
entry = "http://{_at(ports["web"])}/"

[[services.web.files]]
name = "{SITE}"
hosts = ["app"]
"""
    return "\n".join((head, *(_web_instance(name, ports[name]) for name in WEB)))


def _web_instance(name: str, port: int) -> str:
    role = "spare" if name == SPARE else "active"
    return f"""\
[[services.web.instances]]
name = "{name}"
host = "app"
address = "{_at(port)}"
role = "{role}"
unit = "{name}"
"""


def _db(ports: Mapping[str, int]) -> str:
    head = f"""\
[services.{CLUSTER}]
kind = "postgres"
tier = "critical"
rto_s = 30
rpo_s = 0
managed_by = "ha_tasks"

[services.{CLUSTER}.postgres]
database = "{DATABASE}"
user = "{CONTROL_ROLE}"
password = {{ file = "secrets/pg-control" }}
policy = "durability"

[services.{CLUSTER}.routing]
backend = "pg_write"
entry = "{_at(ports["pg_write"])}"
read_backend = "pg_read"
read_entry = "{_at(ports["pg_read"])}"
"""
    return "\n".join((head, *(_node(name, ports[name]) for name in nodes_of(ports))))


def _node(name: str, port: int) -> str:
    return f"""\
[[services.{CLUSTER}.instances]]
name = "{name}"
host = "{name}"
address = "{_at(port)}"
"""


def _cache(ports: Mapping[str, int]) -> str:
    return f"""\
[services.cache]
kind = "redis"
tier = "normal"

[[services.cache.instances]]
name = "cache1"
address = "{_at(ports["cache"])}"
"""


def _at(port: int) -> str:
    return f"{LOOPBACK}:{port}"
