"""Secrets: where they come from, and that they go nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ha_tasks.errors import InventoryError
from ha_tasks.inventory import load, read
from ha_tasks.inventory.secret import printed_by, with_password, without_password
from ha_tasks.model.platform import PoolerSettings
from tests.unit.inventory_files import write_inventory

PASSWORD = '{ file = "secrets/db-password" }'
KEY = '{ file = "secrets/agent-key" }'
BROKER = 'url = "redis://127.0.0.1:6379/0"'


def test_a_file_is_read_without_its_end_of_line(tmp_path: Path):
    inventory = load(write_inventory(tmp_path), {})

    assert inventory.agent_key() == b"key-of-the-agents"
    assert inventory.secret_for("db") == "hush-hush"
    assert inventory.secret_for(inventory.platform.services["db"]) == "hush-hush"
    assert inventory.secret_for("web") is None


def test_a_secret_is_read_anew_each_time_so_that_it_can_be_changed(tmp_path: Path):
    inventory = load(write_inventory(tmp_path), {})
    (tmp_path / "secrets" / "db-password").write_text("new")

    assert inventory.secret_for("db") == "new"


def test_an_environment_variable_holds_a_secret(tmp_path: Path):
    path = write_inventory(tmp_path, (PASSWORD, '{ env = "DB_PASSWORD" }'))

    assert load(path, {"DB_PASSWORD": "from-env"}).secret_for("db") == "from-env"


def test_a_variable_that_is_not_set_is_an_error_only_where_it_is_needed(tmp_path: Path):
    inventory = load(write_inventory(tmp_path, (PASSWORD, '{ env = "DB_PASSWORD" }')), {})

    with pytest.raises(InventoryError, match=r"services\.db\.postgres\.password: .* DB_PASSWORD is not set"):
        inventory.secret_for("db")


def test_a_command_prints_a_secret(tmp_path: Path):
    program = f'{{ command = ["{sys.executable}", "-c", "print(\'from-\' + \'command\')"] }}'
    path = write_inventory(tmp_path, (PASSWORD, program))

    assert load(path, {}).secret_for("db") == "from-command"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; print('s3cret'); sys.exit(3)", "ended with status 3; run it by hand"),
        ("pass", "is empty; put the secret there"),
        ("import sys; sys.stdout.buffer.write(b's3cret' + bytes([255]))", "is no text; write it as UTF-8"),
    ],
)
def test_a_command_that_does_not_work_is_told_without_what_it_printed(
    tmp_path: Path, program: str, said: str
):
    path = write_inventory(tmp_path, (PASSWORD, f'{{ command = ["{sys.executable}", "-c", "{program}"] }}'))

    with pytest.raises(InventoryError) as caught:
        load(path, {}).secret_for("db")

    assert said in str(caught.value)
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


def test_a_command_that_is_late_is_ended_and_told(tmp_path: Path):
    command = [sys.executable, "-c", "import time; print('s3cret', flush=True); time.sleep(60)"]

    with pytest.raises(InventoryError) as caught:
        printed_by("agents.key", command, tmp_path, deadline_s=0.5)

    assert "did not answer within 0.5 s; run it by hand" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path):
    (tmp_path / "program").write_text("no program")
    path = write_inventory(tmp_path, (PASSWORD, '{ command = ["./program"] }'))

    with pytest.raises(InventoryError, match=r"command \./program cannot be read: "):
        load(path, {}).secret_for("db")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o604, "is open to others (mode 0604); chmod 0600"),
        (0o601, "is open to others"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_missing_or_open_to_others_is_a_fault(tmp_path: Path, mode: int | None, said: str):
    path = write_inventory(tmp_path)
    file = tmp_path / "secrets" / "agent-key"
    file.unlink() if mode is None else file.chmod(mode)

    (fault,) = read(path, {}).faults

    assert fault.key == "agents.key"
    assert said in str(fault)


def test_a_file_that_its_group_may_read_is_accepted(tmp_path: Path):
    path = write_inventory(tmp_path)
    (tmp_path / "secrets" / "agent-key").chmod(0o640)

    assert read(path, {}).faults == ()


def test_a_directory_holds_no_secret(tmp_path: Path):
    (fault,) = read(write_inventory(tmp_path, (KEY, '{ file = "secrets" }')), {}).faults

    assert "is no file; name a file that holds the secret" in str(fault)


def test_a_file_below_a_file_is_a_fault(tmp_path: Path):
    (fault,) = read(write_inventory(tmp_path, (KEY, '{ file = "ha-tasks.toml/x" }')), {}).faults

    assert "cannot be looked at: Not a directory" in str(fault)


def test_the_broker_gets_its_password_only_when_it_is_asked_for(tmp_path: Path):
    path = write_inventory(tmp_path, (BROKER, f"{BROKER}\npassword = {PASSWORD}"))

    inventory = load(path, {})

    assert inventory.broker_url() == "redis://:hush-hush@127.0.0.1:6379/0"
    assert inventory.broker.bare_url == "redis://127.0.0.1:6379/0"


def test_a_password_in_an_url_is_taken_from_the_environment(tmp_path: Path):
    environ = {"HA_TASKS__BROKER__URL": "amqp://ha:p%2Fw@mq:5672/v"}

    inventory = load(write_inventory(tmp_path), environ)

    assert inventory.broker_url() == "amqp://ha:p%2Fw@mq:5672/v"
    assert "p%2Fw" not in repr(inventory)


def test_no_repr_shows_a_secret(tmp_path: Path):
    environ = {"BROKER": "env-secret", "HA_TASKS__BROKER__PASSWORD": '{ env = "BROKER" }'}

    inventory = load(write_inventory(tmp_path), environ)
    inventory.broker_url()

    shown = repr(inventory)
    assert "environment variable BROKER" in shown
    assert not any(word in shown for word in ("env-secret", "hush-hush", "key-of-the-agents"))


def test_without_agents_there_is_no_key_and_the_error_says_what_to_add(tmp_path: Path):
    path = tmp_path / "ha-tasks.toml"
    path.write_text(
        'schema = 1\nplatform = { name = "p" }\nstore = { url = "sqlite:///ha.db" }\n'
        'broker = { url = "redis://h:1/0" }\n[services.cache]\nkind = "redis"\n'
        'redis = { password = { env = "CACHE" } }\ninstances = [{ name = "c", address = "h:6379" }]\n'
    )
    inventory = load(path, {"CACHE": "cache-secret"})

    assert inventory.secret_for("cache") == "cache-secret"
    with pytest.raises(InventoryError, match=r"agents\.key: is missing; add \[agents\]"):
        inventory.agent_key()


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        ("redis://h:1/0", "redis://h:1/0", None),
        ("redis://:p@h:1/0", "redis://h:1/0", "p"),
        ("amqp://u:p%40@h/v", "amqp://u@h/v", "p@"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d", None),
        ("sqlite:////a b/c:d@e", "sqlite:////a b/c:d@e", None),
    ],
)
def test_an_url_is_parted_from_its_password_and_joined_again(url: str, bare: str, password: str | None):
    assert without_password(url) == (bare, password)
    if password is not None:
        assert without_password(with_password(bare, password)) == (bare, password)


def test_the_poolers_password_is_a_secret_of_its_own(tmp_path: Path):
    pooler = (
        '[services.db.pooler]\naddresses = ["10.0.0.7:6432"]\nuser = "ha_pooler"\ndatabase = "app"\n'
        'password = { env = "POOLER_PASSWORD" }\n\n[services.db.routing]'
    )
    path = write_inventory(tmp_path, ("[services.db.routing]", pooler))
    inventory = load(path, {"POOLER_PASSWORD": "from-env"})
    service = inventory.platform.services["db"]

    assert service.pooler == PoolerSettings(addresses=("10.0.0.7:6432",), user="ha_pooler", database="app")
    assert inventory.pooler_secret_for(service) == "from-env"
    assert inventory.pooler_secret_for(inventory.platform.services["web"]) is None
