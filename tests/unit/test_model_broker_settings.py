"""What a broker must be set to: tables of what it says, and what mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.broker_settings import RabbitFacts, RedisFacts, rabbit_settings, redis_settings

GOOD = RedisFacts(
    version="9.1.2", policy="noeviction", aof=True, user="ha", needs_password=True, loopback=False
)
RABBIT = RabbitFacts(version="3.10.8", user="ha", refusal="", loopback=False)


def test_a_broker_that_is_set_right_needs_no_mending() -> None:
    settings = [*redis_settings(GOOD), *rabbit_settings(RABBIT)]

    assert all(setting.ok and not setting.remedy for setting in settings)


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"version": "6.0.9"}, "broker version", "install Redis or Valkey 6.2 or newer"),
        ({"version": "odd"}, "broker version", "install Redis or Valkey 6.2"),
        ({"policy": "allkeys-lru"}, "broker eviction", "maxmemory-policy noeviction"),
        ({"policy": None}, "broker eviction", "may not be asked by this user"),
        ({"aof": False}, "broker persistence", "appendonly yes"),
        ({"aof": None}, "broker persistence", "may not be asked by this user"),
        ({"needs_password": False}, "broker login", "user default off"),
        ({"needs_password": False, "user": None}, "broker login", "user default off"),
    ],
)
def test_what_is_wrong_with_a_redis_is_told_with_the_line_that_mends_it(change, what, remedy) -> None:
    wrong = [setting for setting in redis_settings(replace(GOOD, **change)) if not setting.ok]

    assert [setting.what for setting in wrong] == [what]
    assert remedy in wrong[0].remedy


def test_on_loopback_a_redis_without_a_password_is_suffered() -> None:
    settings = redis_settings(replace(GOOD, needs_password=False, loopback=True))

    assert all(setting.ok for setting in settings)


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"version": "3.8.9"}, "broker version", "install RabbitMQ 3.10 or newer"),
        ({"user": "guest"}, "broker user", "rabbitmqctl add_user ha"),
        ({"refusal": "AccessRefused"}, "broker queues", "rabbitmqctl set_permissions -p VHOST ha"),
    ],
)
def test_what_is_wrong_with_a_rabbitmq_is_told_with_the_line_that_mends_it(change, what, remedy) -> None:
    wrong = [setting for setting in rabbit_settings(replace(RABBIT, **change)) if not setting.ok]

    assert [setting.what for setting in wrong] == [what]
    assert remedy in wrong[0].remedy


def test_the_user_guest_is_suffered_on_loopback() -> None:
    assert all(s.ok for s in rabbit_settings(replace(RABBIT, user="guest", loopback=True)))
