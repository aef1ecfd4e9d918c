"""Rules that look at more than one key of ha-tasks.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.inventory import read
from ha_tasks.model.platform import SentinelApi
from tests.unit.inventory_files import write_inventory

ROUTING_OF_DB = """[services.db.routing]
backend = "pg_write"                   # exactly one server of it is ready: the primary
entry = "127.0.0.1:5540"
read_backend = "pg_read"
read_entry = "127.0.0.1:5541"
"""
POLICY = 'policy = "durability"'
PG3 = """[[services.db.instances]]
name = "pg3"
host = "db3"
address = "127.0.0.1:5433"
"""
PG2 = """[[services.db.instances]]
name = "pg2"
host = "db2"
address = "127.0.0.1:5432"
"""
ASYNC_PG2, ASYNC_PG3 = (PG2, f"{PG2}sync = false\n"), (PG3, f"{PG3}sync = false\n")
POSTGRES_OF_DB = """[services.db.postgres]
database = "app"
user = "ha_control"                    # the role with which the control plane looks and verifies
password = { file = "secrets/db-password" }
policy = "durability"                  # durability: stall rather than lose; availability: go on
"""
STORE = 'url = "sqlite:///ha.db"'
REMOTE = [
    ("http://127.0.0.1:7101", "http://10.0.0.1:7101"),
    ("http://127.0.0.1:7102", "http://10.0.0.2:7102"),
]

FAULTS = [
    (
        [('host = "db1"', 'host = "bd1"')],
        'services.db.instances.pg1.host: host "bd1" is not under [hosts]; did you mean "db1"?',
    ),
    ([('host = "db1"\n', "")], "services.db.instances.pg1.host: is missing: a PostgreSQL node is fenced"),
    (
        [('host = "app1"\n', "")],
        "services.web.instances.web1.unit: a unit without a host cannot be restarted",
    ),
    ([('name = "web2"', 'name = "web1"')], "services.web.instances.web1.name: 2 instances bear this name"),
    ([('name = "cache1"', 'name = "pg1"')], "services.cache.instances.pg1.name: an instance of db bears"),
    ([('name = "pg1" ', 'name = "pg-1" ')], "services.db.instances.pg-1.name: cannot stand in synchronous"),
    (
        [("127.0.0.1:8102", "127.0.0.1:8101")],
        "services.web.instances.web2.address: 127.0.0.1:8101 is the address of services.web.instances.web1",
    ),
    ([('depends_on = ["db"]', 'depends_on = ["bd"]')], 'services.web.depends_on: there is no service "bd"'),
    (
        [('tier = "critical"', 'depends_on = ["web"]')],
        "services.web.depends_on: goes round in a circle: web needs db needs web",
    ),
    ([('depends_on = ["db"]', 'depends_on = ["web"]')], "services.web.depends_on: goes round in a circle"),
    ([(POSTGRES_OF_DB, "")], "services.db.postgres: is missing; add [services.db.postgres]"),
    ([(PG3, ""), (POLICY, "")], "services.db.postgres.policy: a cluster of two nodes must choose"),
    (
        [ASYNC_PG3, (POLICY, "")],
        "services.db.postgres.policy: a cluster of two synchronous nodes (pg1, pg2) must choose what",
    ),
    (
        [ASYNC_PG2, ASYNC_PG3],
        "services.db.instances: no commit can wait for a standby: they are sync = false, only pg1 is not",
    ),
    (
        [('name = "cache1"', 'sync = false\nname = "cache1"')],
        "services.cache.instances.cache1.sync: is not for kind redis; take it out",
    ),
    ([(PG3, f"{PG3}priority = 1001\n")], "services.db.instances.pg3.priority: "),
    ([(PG3, f'{PG3}site = "not a name"\n')], "services.db.instances.pg3.site: is no name that can be used"),
    ([(ROUTING_OF_DB, "")], "services.db.routing: is missing: after a promotion"),
    ([('name = "pg1" ', 'role = "active"\nname = "pg1" ')], "services.db.instances.pg1.role: a PostgreSQL"),
    ([("[services.db.postgres]", "[services.cache.postgres]")], "services.cache.postgres: is not for kind"),
    (
        [("[services.db.routing]", "[services.db.redis]\n[services.db.routing]")],
        "services.db.redis: is not for",
    ),
    (
        [('name = "cache1"', 'role = "spare"\nname = "cache1"')],
        "services.cache.instances: every instance is a",
    ),
    ([('entry = "http://127.0.0.1:8080/"', 'entry = "127.0.0.1:8080"')], "services.web.routing.entry: is no"),
    ([('entry = "127.0.0.1:5540"', 'entry = "http://h:5540"')], "services.db.routing.entry: is no address"),
    ([('read_entry = "127.0.0.1:5541"\n', "")], "services.db.routing: read_backend and read_entry belong"),
    ([('"pg_read"', '"pg_write"')], "services.db.routing.read_backend: is the backend of the writes too"),
    ([('backend = "web"', 'backend = "pg_write"')], "services.db.routing: backend pg_write serves web too"),
    ([("[balancers.edge]\nsocket", "[balancers]\n#")], "services.web.routing: there is no balancer"),
    ([("[agents]\nkey", "#")], "agents.key: is missing, and there are hosts"),
    (REMOTE, "store.url: sqlite is for one host, and there are agents on 10.0.0.1, 10.0.0.2"),
    ([(STORE, STORE + '\npassword = { env = "X" }')], "store.password: sqlite has no password"),
    (
        [(STORE, 'url = "postgresql+psycopg://u@127.0.0.1:5431/ha"')],
        "store.url: the store stands on a database that it recovers (services.db.instances.pg1)",
    ),
    (
        [(STORE, 'url = "postgresql+psycopg://u@127.0.0.1:5540/ha"')],
        "store.url: the store stands on a database that it recovers (services.db.routing)",
    ),
    (
        [(STORE, 'url = "postgresql+psycopg://u@localhost:5431/ha"')],
        "store.url: the store stands on a database that it recovers (services.db.instances.pg1)",
    ),
    (
        [(STORE, 'url = "postgresql+psycopg://u@elsewhere/ha?hostaddr=127.0.0.1&port=5541"')],
        "store.url: the store stands on a database that it recovers (services.db.routing)",
    ),
    (
        [("directories = []", 'directories = ["nowhere"]')],
        "playbooks.directories: {dir}/nowhere is no directory",
    ),
    ([('"redis://127', '"redis://:pw@127')], "broker.url: bears a password in clear; take it out"),
]
LED = 'managed_by = "ha_tasks"\n\n[services.db'
API = 'api = ["https://10.0.0.5:8008"]'


def patroni(text: str) -> list[tuple[str, str]]:
    """The template's cluster, led by Patroni, with that [services.db.patroni]."""
    table = f"[services.db.patroni]\n{text}\n" if text else ""
    return [(LED, f'managed_by = "patroni"\n\n{table}[services.db')]


SECRET = 'user = "u"\npassword = { file = "secrets/db-password" }'
FAULTS += [
    (patroni(""), "services.db.patroni: is missing: Patroni is asked over its REST API; add"),
    (
        [(LED, f'managed_by = "external"\n\n[services.db.patroni]\n{API}\n[services.db')],
        "services.db.patroni: is for a cluster that Patroni leads; take it out",
    ),
    (
        [('managed_by = "ha_tasks"                #', 'managed_by = "patroni"  #')],
        "services.web.managed_by: Patroni does not lead kind http",
    ),
    (patroni(f'{API}\nuser = "u"'), "services.db.patroni: user and password belong together"),
    (
        patroni('api = ["http://127.0.0.1:8008"]\ntls = { verify = true }'),
        "services.db.patroni.tls: no URL of api is https",
    ),
    (
        patroni(f'{API}\ntls = {{ certificate = "secrets/agent-key" }}'),
        "services.db.patroni.tls: certificate and key belong together",
    ),
    (
        patroni(f'{API}\ntls = {{ ca = "nowhere.pem" }}'),
        "services.db.patroni.tls.ca: file {dir}/nowhere.pem does not exist",
    ),
    (patroni('api = ["10.0.0.5"]'), "services.db.patroni.api"),
    (
        patroni(f'{API}\nuser = "u"\npassword = {{ file = "nowhere" }}'),
        "services.db.patroni.password: file {dir}/nowhere does not exist",
    ),
]
WARNINGS = [
    (
        patroni(f'api = ["http://10.0.0.5:8008"]\n{SECRET}'),
        "services.db.patroni.api: the password travels in clear to 10.0.0.5",
    ),
    (
        patroni(f"{API}\n{SECRET}\ntls = {{ verify = false }}"),
        "services.db.patroni.tls.verify: whoever answers is trusted",
    ),
    (
        [(STORE, 'url = "postgresql+psycopg://u@127.0.0.1:5431/ha"\non_protected_cluster = true')],
        "store.url: the store stands on a database that it recovers (services.db.instances.pg1)",
    ),
    ([(PG3, ""), (PG2, "")], "services.db.instances: one node has no standby to fail over to"),
    ([(PG3, "")], "services.db.instances: with one standby, writes stall while it is away"),
    ([ASYNC_PG3], "services.db.instances: with one synchronous standby, writes stall while it is away"),
    (
        [ASYNC_PG2, ASYNC_PG3, (POLICY, 'policy = "availability"')],
        "services.db.instances: no commit can wait for a standby: they are sync = false, only pg1 is not",
    ),
    (
        [*patroni(API), (PG3, f"{PG3}priority = 5\n")],
        'services.db.instances.pg3.priority: has no effect: who is promoted is decided elsewhere ("patroni")',
    ),
    ([('host = "db2"', 'host = "db1"')], "services.db.instances: 2 nodes stand on host db1 and fall with it"),
    ([("127.0.0.1:6391", "127.0.0.1:6379")], "broker.url: the broker is the protected services.cache"),
    (
        [('{ file = "secrets/db-password" }', '{ env = "NOPE" }')],
        "services.db.postgres.password: environment",
    ),
    (
        [('{ file = "secrets/db-password" }', '{ command = ["no-such-thing"] }')],
        "services.db.postgres.password",
    ),
]


@pytest.mark.parametrize(("changes", "said"), FAULTS, ids=[said[:60] for _, said in FAULTS])
def test_what_does_not_fit_together_is_a_fault(tmp_path: Path, changes: list[tuple[str, str]], said: str):
    path = write_inventory(tmp_path, *changes)

    reading = read(path, {})

    assert reading.inventory is None
    wanted = f"{path}: {said.format(dir=tmp_path)}"
    assert any(str(fault).startswith(wanted) for fault in reading.faults), reading.faults


@pytest.mark.parametrize(("changes", "said"), WARNINGS, ids=[said[:60] for _, said in WARNINGS])
def test_what_is_only_unwise_is_a_warning(tmp_path: Path, changes: list[tuple[str, str]], said: str):
    path = write_inventory(tmp_path, *changes)

    reading = read(path, {"PATH": "/usr/bin:/bin"})

    assert reading.inventory is not None, reading.faults
    assert [str(w).startswith(f"{path}: {said}") for w in reading.warnings] == [True], reading.warnings


def test_a_cluster_that_others_manage_needs_no_agents_and_no_routing(tmp_path: Path):
    path = write_inventory(
        tmp_path,
        (ROUTING_OF_DB, ""),
        ('managed_by = "ha_tasks"\n\n[services.db', 'managed_by = "external"\n\n[services.db'),
        ('host = "db1"\n', ""),
        (PG3, ""),
    )

    reading = read(path, {})

    assert reading.faults == ()
    assert reading.warnings == ()


def test_sqlite_is_fine_while_every_agent_is_on_this_machine_or_one_other(tmp_path: Path):
    path = write_inventory(tmp_path, REMOTE[0], ("http://127.0.0.1:7102", "http://localhost:7102"))

    assert read(path, {}).faults == ()


EXTERNAL = "# [external.payments]"


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('kind = "http"\ntarget = "payments:80"', "external.pay.target: is no http or https URL (kind http)"),
        ('kind = "tcp"\ntarget = "payments"', "external.pay.target: is no address (kind tcp)"),
        ('kind = "tls"\ntarget = "https://p:443"', "external.pay.target: is no address (kind tls)"),
        ('kind = "dns"\ntarget = "http://p"', "external.pay.target: is no name of a host (kind dns)"),
        ('kind = "tcp"\ntarget = "p:1"\ntls = {}', "external.pay.tls: nothing is encrypted there"),
        (
            'kind = "tls"\ntarget = "p:1"\ntls = { verify = false }',
            "external.pay.tls.verify: the certificate is not looked at, so its end is not told",
        ),
        (
            'kind = "tls"\ntarget = "p:1"\ntls = { ca = "tls/none.pem" }',
            "external.pay.tls.ca:",
        ),
        ('kind = "ping"\ntarget = "p"', "external.pay.kind:"),
        ('kind = "dns"\ntarget = "p"\ntimeout_s = 9', "external.pay.timeout_s:"),
        ('kind = "dns"\ntarget = "p"\nretries = 3', "external.pay.retries:"),
    ],
)
def test_what_lies_outside_is_read_strictly(tmp_path: Path, table: str, fault: str) -> None:
    path = write_inventory(tmp_path, (EXTERNAL, f"[external.pay]\n{table}\n\n{EXTERNAL}"))

    faults = [str(each) for each in read(path, {}).faults]

    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    "table",
    [
        'kind = "http"\ntarget = "https://pay.example.org/healthz"\ntls = { verify = true }\ntier = "low"',
        'kind = "tcp"\ntarget = "[::1]:25"\nremedy = "call them"',
        'kind = "dns"\ntarget = "_sip._tcp.example.org."',
    ],
)
def test_what_lies_outside_may_be_of_any_kind(tmp_path: Path, table: str) -> None:
    path = write_inventory(tmp_path, (EXTERNAL, f"[external.pay]\n{table}\n\n{EXTERNAL}"))

    found = read(path, {})

    assert found.faults == ()
    assert found.inventory is not None
    assert set(found.inventory.platform.external) == {"pay"}


def test_a_limit_of_a_machine_is_a_share_below_one(tmp_path: Path) -> None:
    path = write_inventory(tmp_path, ("[hosts.db2]", "limits = { disk = 1.5 }\n\n[hosts.db2]"))

    assert "hosts.db1.limits.disk" in str(read(path, {}).faults[0])


def test_a_redis_without_a_second_instance_replicates_nowhere(tmp_path: Path):
    table = "[services.cache.redis]\nreplicated = true\n\n[[services.cache.instances]]"
    path = write_inventory(tmp_path, ("[[services.cache.instances]]", table))

    (fault,) = read(path, {}).faults
    assert str(fault).endswith(
        "services.cache.redis.replicated: there is one instance, and so no replica; "
        "add the replicas as instances, or take it out"
    )


SENTINEL = '[services.cache.sentinel]\naddresses = ["127.0.0.1:26379"]\nname = "main"\n\n'
CACHE = '[services.cache]\nkind = "redis"\ntier = "normal"\n\n'


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            (CACHE, f'{CACHE.rstrip()}\nmanaged_by = "sentinel"\n\n'),
            "services.cache.sentinel: is missing: the Sentinels are asked who leads",
        ),
        (
            (CACHE, f"{CACHE}{SENTINEL}"),
            "services.cache.sentinel: is for a service that Sentinel leads; "
            'take it out, or write managed_by = "sentinel"',
        ),
        (
            ('managed_by = "ha_tasks"                #', 'managed_by = "sentinel"  #'),
            "services.web.managed_by: Sentinel does not lead kind http",
        ),
    ],
)
def test_what_is_said_of_sentinel_must_fit_together(tmp_path: Path, change: tuple[str, str], told: str):
    path = write_inventory(tmp_path, change)

    (fault,) = read(path, {}).faults
    assert told in str(fault)


def test_a_redis_that_sentinel_leads(tmp_path: Path):
    led = f'{CACHE.rstrip()}\nmanaged_by = "sentinel"\n\n{SENTINEL}'
    secret = 'password = { file = "secrets/db-password" }\n\n'
    path = write_inventory(tmp_path, (CACHE, led.rstrip() + "\n" + secret))

    inventory = read(path, {}).inventory
    assert inventory is not None
    cache = inventory.platform.services["cache"]
    assert cache.sentinel == SentinelApi(addresses=("127.0.0.1:26379",), name="main")
    assert inventory.sentinel_password(cache) == "hush-hush"
