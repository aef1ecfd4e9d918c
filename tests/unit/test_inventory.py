"""Reading ha-tasks.toml: what it becomes, and what is said about what is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest

from ha_tasks.errors import InventoryError
from ha_tasks.inventory import ManagedBy, load, read, template
from ha_tasks.inventory.loading import json_schema
from ha_tasks.model.fault import Fault, closest, dotted
from ha_tasks.model.platform import DataPolicy, PatroniApi, Policies, Role, ServiceKind
from tests.unit.inventory_files import write_inventory


def faults(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    return [str(fault).removeprefix(f"{path}: ") for fault in read(path, environ or {}).faults]


def test_the_template_is_a_complete_inventory(tmp_path: Path):
    inventory = load(write_inventory(tmp_path), {})

    platform = inventory.platform
    assert platform.name == "my-platform"
    assert set(platform.services) == {"web", "db", "cache"}
    assert platform.hosts["db1"].agent_url == "http://127.0.0.1:7101"
    assert platform.balancers["edge"].socket == "tcp://127.0.0.1:8405"
    assert platform.policies == Policies()
    assert inventory.metrics_listen == "127.0.0.1:9808"
    assert inventory.warnings == ()


def test_a_service_becomes_a_value_of_the_model(tmp_path: Path):
    platform = load(write_inventory(tmp_path), {}).platform

    web, db = platform.services["web"], platform.services["db"]
    assert (web.kind, web.weight, web.depends_on) == (ServiceKind.HTTP, 2.0, ("db",))
    assert web.check.path == "/healthz"
    assert [i.role for i in web.instances] == [Role.ACTIVE, Role.ACTIVE, Role.SPARE]
    assert {i.role for i in db.instances} == {Role.NODE}
    assert db.postgres is not None
    assert db.postgres.policy is DataPolicy.DURABILITY
    assert db.routing is not None
    assert db.routing.read_entry == "127.0.0.1:5541"


def test_every_key_that_is_left_out_has_the_default_of_the_model(tmp_path: Path):
    path = tmp_path / "ha-tasks.toml"
    path.write_text(
        'schema = 1\nplatform = { name = "p" }\nstore = { url = "sqlite:///ha.db" }\n'
        'broker = { url = "redis://h:1/0" }\n[services.cache]\nkind = "redis"\n'
        'instances = [{ name = "c", address = "h:6379" }]\n'
    )

    platform = load(path, {}).platform

    assert platform.policies == Policies()
    service = platform.services["cache"]
    defaults = type(service)(name="cache", kind=ServiceKind.REDIS, instances=service.instances)
    assert service == defaults
    assert service.instances[0].role is Role.ACTIVE


def test_a_relative_sqlite_path_counts_from_the_file(tmp_path: Path):
    inventory = load(write_inventory(tmp_path / "a home with spaces"), {})

    assert inventory.store_url() == f"sqlite:///{tmp_path}/a home with spaces/ha.db"


def test_who_manages_a_service_is_told(tmp_path: Path):
    path = write_inventory(
        tmp_path,
        (
            'rpo_s = 0\nmanaged_by = "ha_tasks"\n\n[services.db',
            'managed_by = "patroni"\npatroni = { api = ["http://127.0.0.1:8008/"] }\n[services.db',
        ),
    )

    inventory = load(path, {})

    assert inventory.managed_by["db"] is ManagedBy.PATRONI
    assert inventory.platform.services["db"].patroni == PatroniApi(urls=("http://127.0.0.1:8008",))
    assert inventory.managed_by["web"] is ManagedBy.HA_TASKS


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('tier = "high"', 'teir = "high"', 'services.web.teir: unknown key; did you mean "tier"?'),
        (
            'host = "app1"\n',
            'hots = "app1"\n',
            'services.web.instances.web1.hots: unknown key; did you mean "host"?',
        ),
        (
            'kind = "http" ',
            'kind = "htpp" ',
            'services.web.kind: "htpp" is none of http, postgres, redis; did you mean "http"?',
        ),
        (
            "rto_s = 30 ",
            'rto_s = "30" ',
            "services.web.rto_s: must be a number without quotes; "
            "expected: Objective: seconds from failure to service.",
        ),
        ("interval_s = 0.5", "interval_s = 0", "services.web.check.interval_s: must be greater than 0;"),
        ("schema = 1 ", "schema = 2 ", 'schema: "2" is none of 1; known: 1'),
        (
            'address = "127.0.0.1:8101"',
            'address = "127.0.0.1"',
            "services.web.instances.web1.address: is no address; write host:port",
        ),
        (
            'name = "web1" ',
            'title = "web1" ',
            "services.web.instances[0].name: is missing; add it: Its name, and its server name in HAProxy.",
        ),
        ("[services.web]", "[services.'w b']", "services.w b: is no name that can be used;"),
        ('url = "sqlite:///ha.db"', 'url = "mysql://h/d"', "store.url: is no URL of a state store;"),
        ('url = "redis://127', 'url = "kafka://127', "broker.url: is no URL of a broker"),
        ('agent = "http://127.0.0.1:7101"', 'agent = "127.0.0.1:7101"', "hosts.db1.agent: is no http"),
        ('socket = "tcp://127', 'socket = "127', "balancers.edge.socket: is no socket; write tcp://"),
        (
            'key = { file = "secrets/agent-key" }',
            'key = { file = "a", env = "B" }',
            "agents.key: must name one source of the secret; write one of { file",
        ),
        (
            'key = { file = "secrets/agent-key" }',
            'key = "the key itself"',
            "agents.key: must be a table, like { ... } or [section];",
        ),
        (
            "max_concurrent_runs = 2 ",
            "max_concurrent_runs = true ",
            "policies.max_concurrent_runs: must be a",
        ),
    ],
)
def test_a_wrong_key_is_told_with_its_place_and_its_mending(tmp_path: Path, old: str, new: str, said: str):
    path = write_inventory(tmp_path, (old, new))

    assert any(fault.startswith(said) for fault in faults(path)), faults(path)


def test_every_fault_is_told_at_once(tmp_path: Path):
    path = write_inventory(
        tmp_path,
        ('tier = "high"', 'teir = "high"'),
        ("lease_s = 3.0", "lease_s = -1"),
        ("[broker]", "[brokre]"),
    )

    with pytest.raises(InventoryError) as caught:
        load(path, {})

    said = str(caught.value).splitlines()
    assert len(said) == 4
    assert all(line.startswith(f"{path}: ") for line in said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = \n", "is no TOML: Invalid value (at line 1, column 5); mend that line"),
        (b"\xff", "is no text; save it as UTF-8"),
        (None, "does not exist; write one with: ha-tasks init"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_one_fault(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "ha-tasks.toml"
    if content is not None:
        path.write_bytes(content)

    assert faults(path) == [said]


def test_a_directory_in_place_of_the_file_is_one_fault(tmp_path: Path):
    assert faults(tmp_path) == ["cannot be read: Is a directory; mend its permissions"]


def test_what_stands_in_the_place_of_a_secret_is_never_repeated(tmp_path: Path):
    path = write_inventory(
        tmp_path,
        ('key = { file = "secrets/agent-key" }', 'key = "s3cret-1"'),
        ('password = { file = "secrets/db-password" }', 'password = "s3cret-2"'),
        ('url = "redis://127.0.0.1:6379/0"', 'url = "kafka://:s3cret-3@h/0"'),
        ('url = "sqlite:///ha.db"', 'url = "mysql://u:s3cret-4@h/0"'),
    )

    said = faults(path)
    assert len(said) == 4
    assert "s3cret" not in "".join(said)


def test_the_json_schema_takes_the_template_and_refuses_a_typing_error(tmp_path: Path):
    schema = json_schema()
    content = tomllib.loads(template())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    content["services"]["web"]["teir"] = "high"

    with pytest.raises(jsonschema.ValidationError, match="teir"):
        jsonschema.validate(content, schema)


def test_an_unknown_word_gets_the_nearest_known_one_or_all_of_them():
    assert closest("rto", ["rto_s", "rpo_s"]) == 'did you mean "rto_s"?'
    assert closest("zzz", ["b", "a"]) == "known: a, b"
    assert closest("zzz", []) == "nothing is known here: remove it"


def test_a_place_in_a_list_is_told_by_name_or_by_number():
    content = {"a": [{"name": "x"}, {}, 3]}

    assert dotted(("a", 0, "k"), content) == "a.x.k"
    assert dotted(("a", 1, "k"), content) == "a[1].k"
    assert dotted(("a", 2), content) == "a[2]"
    assert dotted(("a", 9), content) == "a[9]"


def test_a_fault_of_the_whole_file_names_no_key():
    fault = Fault(file="f", key="", problem="is bad", mending="mend it")

    assert str(fault) == "f: is bad; mend it"
    assert fault.to_json()["key"] == ""
