"""Redis servers in memory: a primary's stream, and what each replica has of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ha_tasks.errors import ServiceUnreachable
from ha_tasks.model.platform import Instance, Service
from ha_tasks.model.redis_replication import RedisReading


@dataclass
class FakeRedisControl:
    """``servers``: node -> what it says; who is in ``away`` does not answer."""

    servers: dict[str, RedisReading] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)

    def reading(self, service: Service, node: Instance, *, timeout_s: float = 1.0) -> RedisReading:
        if node.name in self.away or node.name not in self.servers:
            raise ServiceUnreachable(f"{node.name} at {node.address}: it did not answer (ConnectionError)")
        return self.servers[node.name]

    def write(self, primary: str, amount: int) -> None:
        """That many bytes, at the primary and at all who follow it."""
        replid = self.servers[primary].replid
        for name, said in self.servers.items():
            if name == primary or (said.link_up and said.replid == replid):
                self.servers[name] = replace(said, offset=said.offset + amount)
