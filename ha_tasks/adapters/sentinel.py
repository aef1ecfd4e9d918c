"""Sentinels of a Redis or Valkey service. Implements ports.cluster_manager.ClusterWord."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ha_tasks.adapters.wire import parse_address
from ha_tasks.errors import ManagerUnreachable, UsageError
from ha_tasks.model.led_by_others import LedCluster, Member, MemberRole
from ha_tasks.model.platform import SentinelApi, Service

WAITS = 4
"""Connect, authenticate, two questions: each has its part of the time."""
DOWN = ("s_down", "o_down", "disconnected")
Said: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """One Sentinel's: the primary that it names, and that one's replicas."""

    master: Said
    replicas: Sequence[Said]

    @property
    def leader(self) -> str:
        return _address(self.master)

    @property
    def up(self) -> bool:
        return not any(flag in DOWN for flag in self.master.get("flags", "").split(","))


class SentinelWord:
    """The word of a majority of the Sentinels: one that was cut off names the primary of before."""

    def __init__(self, *, password: Callable[[Service], str | None]) -> None:
        self._password = password

    def report(self, service: Service, *, timeout_s: float = 2.0) -> LedCluster:
        """See the port. Where a majority answers and does not agree, nobody leads."""
        api, password = _api(service), self._password(service)
        with ThreadPoolExecutor(max_workers=len(api.addresses), thread_name_prefix="sentinel") as pool:
            said = list(pool.map(lambda place: _asked(place, api.name, password, timeout_s), api.addresses))
        words = [each for each in said if isinstance(each, _Word)]
        need = len(api.addresses) // 2 + 1
        if len(words) < need:
            told = "; ".join(each for each in said if isinstance(each, str))
            raise ManagerUnreachable(f"{len(words)} of {len(said)} Sentinels answer, {need} must: {told}")
        names = {node.address: node.name for node in service.instances}
        leader, votes = Counter(word.leader for word in words).most_common(1)[0]
        if votes < need:
            return LedCluster(leader=None, members=())
        agreeing = [word for word in words if word.leader == leader]
        up = sum(word.up for word in agreeing) >= need
        members = [_member(each, names) for each in agreeing[0].replicas]
        name = names.get(leader, leader)
        head = Member(name=name, role=MemberRole.LEADER, state="running" if up else "down")
        return LedCluster(leader=name, members=(head, *members))


def _api(service: Service) -> SentinelApi:
    if service.sentinel is None:
        raise UsageError(f"{service.name} has no [services.{service.name}.sentinel] in the inventory")
    return service.sentinel


def _asked(place: str, name: str, password: str | None, timeout_s: float) -> _Word | str:
    """Why it has no word, when it has none. The driver may quote what was sent, so its words are not told."""
    host, port = parse_address(place)
    wait_s = timeout_s / WAITS
    client = redis.Redis(
        host=host,
        port=port,
        password=password,
        protocol=2,
        socket_connect_timeout=wait_s,
        socket_timeout=wait_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        with client:
            ask: Callable[..., Any] = client.execute_command  # redis-py annotates it not
            master = _pairs(ask("SENTINEL", "MASTER", name))
            replicas = ask("SENTINEL", "REPLICAS", name)
            return _Word(master=master, replicas=[_pairs(each) for each in replicas])
    except redis.exceptions.AuthenticationError:
        return f"{place} refused the password"
    except redis.exceptions.TimeoutError:
        return f"{place} gave no answer in time"
    except redis.exceptions.ResponseError:
        return f"{place} does not know {name}"
    except redis.RedisError as error:
        return f"{place} did not answer ({type(error).__name__})"


def _pairs(flat: Any) -> Said:  # noqa: ANN401 - what the driver gives: a mapping, or names and values in turn
    if isinstance(flat, Mapping):
        return dict(flat)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _member(said: Said, names: Mapping[str, str]) -> Member:
    down = [flag for flag in said.get("flags", "").split(",") if flag in DOWN]
    linked = said.get("master-link-status") == "ok"
    state = ", ".join(down) or ("streaming" if linked else "link down")
    place = _address(said)
    return Member(name=names.get(place, place), role=MemberRole.REPLICA, state=state)


def _address(said: Said) -> str:
    host = said["ip"]
    return f"[{host}]:{said['port']}" if ":" in host else f"{host}:{said['port']}"


class EachBy:
    """Implements ClusterWord: whoever leads the service is asked."""

    def __init__(self, *, patroni: Callable[..., LedCluster], sentinel: Callable[..., LedCluster]) -> None:
        self._patroni = patroni
        self._sentinel = sentinel

    def report(self, service: Service, *, timeout_s: float = 2.0) -> LedCluster:
        """See the port."""
        ask = self._patroni if service.sentinel is None else self._sentinel
        return ask(service, timeout_s=timeout_s)
