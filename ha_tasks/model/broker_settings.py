"""What a broker must be set to: what it took is not lost, and nobody else writes to it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

REDIS_FLOOR = (6, 2)
"""Kombu takes back what a dead worker held by ``ZRANGE ... BYSCORE REV``, which is not there before."""
QUORUM_FLOOR = (3, 10)
"""Quorum queues with a delivery limit are older; message expiry in them is not."""
QUORUM_FLAG = "quorum_queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One thing that was looked at. ``found``: what it is; ``remedy``: the line that mends it, '' when ok."""

    what: str
    found: str
    ok: bool
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What a Redis or Valkey says of itself. None: it does not let us ask.

    ``user`` is the one that we are; ``needs_password``: whether nobody gets in without one.
    """

    version: str
    policy: str | None
    aof: bool | None
    user: str | None
    needs_password: bool
    loopback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitFacts:
    """What a RabbitMQ says. ``refusal``: why a quorum queue may not be declared, written and read, or ''."""

    version: str
    user: str
    refusal: str
    loopback: bool


def redis_settings(facts: RedisFacts) -> Iterator[Setting]:
    """Everything that was looked at, in the order in which it matters."""
    yield _version("broker version", facts.version, REDIS_FLOOR, "install Redis or Valkey")
    yield _asked(
        "broker eviction",
        facts.policy,
        facts.policy == "noeviction",
        "redis.conf: maxmemory-policy noeviction (now: CONFIG SET maxmemory-policy noeviction)",
    )
    yield _asked(
        "broker persistence",
        None if facts.aof is None else f"appendonly {'yes' if facts.aof else 'no'}",
        bool(facts.aof),
        "redis.conf: appendonly yes (now: CONFIG SET appendonly yes)",
    )
    yield _login(facts)


def rabbit_settings(facts: RabbitFacts) -> Iterator[Setting]:
    """As ``redis_settings``."""
    yield _version("broker version", facts.version, QUORUM_FLOOR, "install RabbitMQ")
    guest = facts.user == "guest" and not facts.loopback
    yield Setting(
        what="broker user",
        found=facts.user,
        ok=not guest,
        remedy="rabbitmqctl add_user ha, and write amqp://ha@... in [broker] url" if guest else "",
    )
    yield Setting(
        what="broker queues",
        found=facts.refusal or "quorum queues can be used",
        ok=not facts.refusal,
        remedy=""
        if not facts.refusal
        else f"rabbitmqctl set_permissions -p VHOST {facts.user} '.*' '.*' '.*'; "
        f"rabbitmqctl enable_feature_flag {QUORUM_FLAG}",
    )


def _version(what: str, version: str, floor: tuple[int, int], install: str) -> Setting:
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    ok = numbers >= floor
    wanted = ".".join(map(str, floor))
    return Setting(what=what, found=version, ok=ok, remedy="" if ok else f"{install} {wanted} or newer")


def _asked(what: str, found: str | None, ok: bool, remedy: str) -> Setting:
    """What may not be asked is not known to be right, and the remedy says how to see for oneself."""
    if found is None:
        text = f"may not be asked by this user; let it ask (ACL: +config|get +info), or see to it: {remedy}"
        return Setting(what=what, found="unknown", ok=False, remedy=text)
    return Setting(what=what, found=found, ok=ok, remedy="" if ok else remedy)


def _login(facts: RedisFacts) -> Setting:
    name = facts.user or "default"
    ok = facts.needs_password or facts.loopback
    return Setting(
        what="broker login",
        found=f"user {name}, {'with' if facts.needs_password else 'without'} a password",
        ok=ok,
        remedy=""
        if ok
        else "anybody who reaches it can stop the plane; redis.conf: user default off, "
        "user ha on >PASSWORD ~* &* +@all -@dangerous +config|get +info; and [broker] password",
    )
