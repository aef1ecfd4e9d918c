"""Whether the nodes of a PostgreSQL service are enough, and whether their keys have an effect. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ha_tasks.inventory.schema_services import ServiceTable

_OF_NODES = ("priority", "site", "sync")


def misfits(key: str, service: ServiceTable) -> Iterator[tuple[str, str, str, bool]]:
    """(key, problem, mending, warning); ``key`` is ``services.NAME``."""
    yield from _without_effect(key, service)
    if service.kind != "postgres" or service.managed_by != "ha_tasks" or service.postgres is None:
        return
    policy = service.postgres.policy
    if len(service.instances) == 1:
        problem = f"one node has no standby to fail over to (policy {policy or 'durability'})"
        mending = "add two standbys; until then an outage lasts until a person mends it"
        yield f"{key}.instances", problem, mending, True
    else:
        yield from _synchronous(key, service, policy)
    machines = Counter(i.host for i in service.instances if i.host)
    for host in sorted(h for h, number in machines.items() if number > 1):
        problem = f"{machines[host]} nodes stand on host {host} and fall with it"
        yield f"{key}.instances", problem, "put each node on a host of its own", True


def _without_effect(key: str, service: ServiceTable) -> Iterator[tuple[str, str, str, bool]]:
    """Keys of PostgreSQL nodes where nothing reads them."""
    for instance in service.instances:
        for word in _OF_NODES:
            if word not in instance.model_fields_set:
                continue
            at = f"{key}.instances.{instance.name}.{word}"
            if service.kind != "postgres":
                yield at, f"is not for kind {service.kind}", "take it out", False
            elif service.managed_by != "ha_tasks":
                problem = f'has no effect: who is promoted is decided elsewhere ("{service.managed_by}")'
                yield at, problem, "say it there, and take it out here", True


def _synchronous(key: str, service: ServiceTable, policy: str | None) -> Iterator[tuple[str, str, str, bool]]:
    """Of several nodes: those that can be in the synchronous set must be enough for the policy."""
    able = [i.name for i in service.instances if i.sync]
    apart = len(service.instances) - len(able)
    if len(able) < 2:
        who = f"only {able[0]} is not" if able else "so is every node"
        yield (
            f"{key}.instances",
            f"no commit can wait for a standby: they are sync = false, {who}, so nobody is ever promoted "
            "automatically",
            'take sync = false out where it is near, or accept a possible loss: policy = "availability"'
            if policy != "availability"
            else "take sync = false out where it is near; until then a person recovers it",
            policy == "availability",
        )
    elif len(able) == 2 and policy is None:
        nodes = "two nodes" if not apart else f"two synchronous nodes ({', '.join(able)})"
        yield (
            f"{key}.postgres.policy",
            f"a cluster of {nodes} must choose what happens while its only standby is away",
            'write policy = "durability" (commits wait), or "availability" (they go on, and the next '
            "failure loses what was acknowledged last)",
            False,
        )
    elif len(able) == 2 and policy == "durability":
        yield (
            f"{key}.instances",
            f"with one {'synchronous ' if apart else ''}standby, writes stall while it is away (policy "
            "durability)",
            'add a second standby, or accept a possible loss: policy = "availability"',
            True,
        )
