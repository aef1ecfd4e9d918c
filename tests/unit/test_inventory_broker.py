"""The broker in ha-tasks.toml: one URL or several, and Sentinel."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.inventory.loading import load, read
from ha_tasks.model.broker import BrokerKind, broker_address
from tests.unit.inventory_files import write_inventory

BROKER = 'url = "redis://127.0.0.1:6379/0"'
PASSWORD = '{ file = "secrets/db-password" }'
SENTINELS = 'url = ["sentinel://s1:26379/0", "sentinel://s2:26379/0"]'


def test_several_urls_get_the_one_password_and_are_tried_in_order(tmp_path: Path) -> None:
    urls = 'url = ["amqp://ha@mq1:5672//", "amqp://ha@mq2:5672//"]'
    path = write_inventory(tmp_path, (BROKER, f"{urls}\npassword = {PASSWORD}"))

    address = broker_address(load(path, {}).broker_url())

    assert address.urls == ("amqp://ha:hush-hush@mq1:5672//", "amqp://ha:hush-hush@mq2:5672//")
    assert "hush-hush" not in repr(load(path, {}))


def test_sentinel_has_a_password_of_its_own(tmp_path: Path) -> None:
    lines = (SENTINELS, 'master_name = "ha"', f"sentinel_password = {PASSWORD}")
    path = write_inventory(tmp_path, (BROKER, "\n".join(lines)))

    address = broker_address(load(path, {}).broker_url())

    assert (address.kind, address.master_name) == (BrokerKind.SENTINEL, "ha")
    assert address.sentinel_password == "hush-hush"
    assert address.places == (("s1", 26379), ("s2", 26379))


def test_several_urls_come_from_the_environment_too(tmp_path: Path) -> None:
    environ = {"HA_TASKS__BROKER__URL": '["redis://a:1/0", "redis://b:1/0"]'}

    assert load(write_inventory(tmp_path), environ).broker_url() == "redis://a:1/0;redis://b:1/0"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = ["redis://a/0", "amqp://b//"]', "broker.url: URLs of several schemes: amqp, redis"),
        (SENTINELS, "broker.master_name: is missing: Sentinel watches servers by name"),
        (f'{BROKER}\nmaster_name = "ha"', "broker.master_name: is for URLs of the scheme sentinel"),
        (f"{BROKER}\nsentinel_password = {PASSWORD}", "broker.sentinel_password: is for URLs of the scheme"),
        ('url = ["redis://a/0", "kafka://b"]', "broker.url: is no URL of a broker"),
        ("url = []", "broker.url: is empty"),
        ('url = "redis://a/0;redis://b/0"', "broker.url: is no URL of a broker"),
        ('url = ["redis://:hush@a/0"]', "broker.url: bears a password in clear"),
    ],
)
def test_what_does_not_fit_together_is_told(tmp_path: Path, lines: str, said: str) -> None:
    faults = [str(fault) for fault in read(write_inventory(tmp_path, (BROKER, lines)), {}).faults]

    assert len(faults) == 1
    assert said in faults[0]
    assert "hush" not in faults[0]
