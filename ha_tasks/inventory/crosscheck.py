"""What no single key shows: whether the parts of ha-tasks.toml fit together. Pure.

Each rule looks at the whole file and yields findings. A warning keeps nothing from working; a fault
would make a recovery impossible or dangerous.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ha_tasks.inventory import forms, led, outside, standbys, tls
from ha_tasks.inventory.schema import InventoryFile
from ha_tasks.inventory.schema_services import InstanceTable, ServiceTable
from ha_tasks.inventory.store_place import Resolve, as_written, owner_of_store_place
from ha_tasks.model.event import EXCHANGE
from ha_tasks.model.fault import closest


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``key`` is dotted; ``warning``: it may stay as it is."""

    key: str
    problem: str
    mending: str
    warning: bool = False


def findings(file: InventoryFile, resolve: Resolve = as_written) -> Iterator[Finding]:
    """Every finding of every rule, in the order of the rules. ``resolve``: how a host's name is looked up."""
    for rule in _RULES:
        yield from rule(file)
    yield from _store_is_apart(file, resolve)


def _instances(file: InventoryFile) -> Iterator[tuple[str, ServiceTable, InstanceTable]]:
    """(dotted key, service, instance) of every instance."""
    for name, service in file.services.items():
        for instance in service.instances:
            yield f"services.{name}.instances.{instance.name}", service, instance


def _hosts_exist(file: InventoryFile) -> Iterator[Finding]:
    for key, service, instance in _instances(file):
        if instance.host is not None and instance.host not in file.hosts:
            yield Finding(
                key=f"{key}.host",
                problem=f'host "{instance.host}" is not under [hosts]',
                mending=f"{closest(instance.host, file.hosts)} or add [hosts.{instance.host}]",
            )
        if instance.host is None and instance.unit is not None:
            yield Finding(
                key=f"{key}.unit",
                problem="a unit without a host cannot be restarted",
                mending='add host = "..." (a name under [hosts])',
            )
        if instance.host is None and service.kind == "postgres" and service.managed_by == "ha_tasks":
            yield Finding(
                key=f"{key}.host",
                problem="is missing: a PostgreSQL node is fenced and promoted by the agent of its host",
                mending='add host = "..." (a name under [hosts])',
            )


def _names_are_unique(file: InventoryFile) -> Iterator[Finding]:
    for name, service in file.services.items():
        counts = Counter(instance.name for instance in service.instances)
        for twice in sorted(n for n, count in counts.items() if count > 1):
            yield Finding(
                key=f"services.{name}.instances.{twice}.name",
                problem=f"{counts[twice]} instances bear this name",
                mending="give each its own: it is the server's name in HAProxy",
            )


def _names_are_known_once(file: InventoryFile) -> Iterator[Finding]:
    """Agents and the command line know an instance by its name alone."""
    owner: dict[str, str] = {}
    for name, service in file.services.items():
        for each in service.instances:
            key = f"services.{name}.instances.{each.name}.name"
            if owner.setdefault(each.name, name) != name:
                yield Finding(
                    key=key,
                    problem=f"an instance of {owner[each.name]} bears this name too",
                    mending="give each its own: agents know it by its name alone",
                )
            if service.kind == "postgres" and not forms.postgres_name(each.name):
                yield Finding(
                    key=key,
                    problem="cannot stand in synchronous_standby_names",
                    mending="use lower-case letters, digits and _ only",
                )


def _addresses_are_unique(file: InventoryFile) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for key, _, instance in _instances(file):
        owner = first.setdefault(instance.address, key)
        if owner != key:
            yield Finding(
                key=f"{key}.address",
                problem=f"{instance.address} is the address of {owner} too",
                mending="give each instance the address where it really listens",
            )


def _dependencies(file: InventoryFile) -> Iterator[Finding]:
    graph: dict[str, list[str]] = {}
    for name, service in file.services.items():
        graph[name] = [needed for needed in service.depends_on if needed in file.services]
        for needed in service.depends_on:
            if needed not in file.services:
                yield Finding(
                    key=f"services.{name}.depends_on",
                    problem=f'there is no service "{needed}"',
                    mending=closest(needed, set(file.services) - {name}),
                )
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # The sorter walks from a service to those that need it; read backwards it says who needs whom.
        circle = list(reversed(error.args[1]))
        yield Finding(
            key=f"services.{circle[0]}.depends_on",
            problem=f"goes round in a circle: {' needs '.join(circle)}",
            mending="take one of these dependencies out: no order of recovery exists",
        )


def _kinds_fit(file: InventoryFile) -> Iterator[Finding]:
    for name, service in file.services.items():
        key = f"services.{name}"
        if service.kind == "postgres":
            yield from _postgres_fits(key, service)
        tables = (
            ("postgres", "postgres", service.postgres),
            ("postgres", "pooler", service.pooler),
            ("redis", "redis", service.redis),
        )
        for kind, word, table in tables:
            if table is not None and service.kind != kind:
                yield Finding(
                    key=f"{key}.{word}", problem=f"is not for kind {service.kind}", mending="take it out"
                )
        if service.redis is not None and service.redis.replicated and len(service.instances) == 1:
            yield Finding(
                key=f"{key}.redis.replicated",
                problem="there is one instance, and so no replica",
                mending="add the replicas as instances, or take it out",
            )
        if service.kind != "postgres" and all(i.role == "spare" for i in service.instances):
            yield Finding(
                key=f"{key}.instances",
                problem="every instance is a spare, none is active",
                mending='leave role out where it shall serve (or write role = "active")',
            )
        if service.routing is not None:
            yield from _routing_fits(f"{key}.routing", service)


def _led_by_others_fits(file: InventoryFile) -> Iterator[Finding]:
    for name, service in file.services.items():
        for key, problem, mending, warning in led.misfits(f"services.{name}", service):
            yield Finding(key=key, problem=problem, mending=mending, warning=warning)


def _postgres_fits(key: str, service: ServiceTable) -> Iterator[Finding]:
    if service.postgres is None:
        yield Finding(
            key=f"{key}.postgres",
            problem="is missing",
            mending=f"add [{key}.postgres] with database, user and password",
        )
    if service.routing is None and service.managed_by == "ha_tasks":
        yield Finding(
            key=f"{key}.routing",
            problem="is missing: after a promotion nothing would lead the writes to the new primary",
            mending=f"add [{key}.routing] with backend and entry of the balancer",
        )
    for instance in service.instances:
        if instance.role is not None:
            yield Finding(
                key=f"{key}.instances.{instance.name}.role",
                problem="a PostgreSQL node has no fixed role, the server is asked",
                mending="take role out",
            )


def _routing_fits(key: str, service: ServiceTable) -> Iterator[Finding]:
    routing = service.routing
    if routing is None:
        return
    well_formed = forms.web_url if service.kind == "http" else forms.address
    try:
        well_formed(routing.entry)
    except ValueError as wrong:
        yield Finding(key=f"{key}.entry", problem=str(wrong.args[0]), mending=str(wrong.args[1]))
    if (routing.read_backend is None) != (routing.read_entry is None):
        yield Finding(
            key=key,
            problem="read_backend and read_entry belong together, one is missing",
            mending="write both, or none",
        )
    if routing.read_backend is not None and routing.read_backend == routing.backend:
        yield Finding(
            key=f"{key}.read_backend",
            problem="is the backend of the writes too",
            mending="reads need a backend of their own in HAProxy",
        )


def _backends_have_one_owner(file: InventoryFile) -> Iterator[Finding]:
    owner: dict[str, str] = {}
    for name, service in file.services.items():
        if service.routing is None:
            continue
        for backend in {service.routing.backend, service.routing.read_backend} - {None}:
            if owner.setdefault(str(backend), name) != name:
                yield Finding(
                    key=f"services.{name}.routing",
                    problem=f"backend {backend} serves {owner[str(backend)]} too",
                    mending="give each service a backend of its own in HAProxy",
                )
        if not file.balancers:
            yield Finding(
                key=f"services.{name}.routing",
                problem="there is no balancer",
                mending="add [balancers.NAME] with the socket of its runtime API",
            )


def _files_fit(file: InventoryFile) -> Iterator[Finding]:
    """Agents know a file by its name alone, and only one service may take it back."""
    owner: dict[tuple[str, str], str] = {}
    for name, service in file.services.items():
        for each in service.files:
            for host in each.hosts:
                key = f"services.{name}.files.{each.name}.hosts"
                if host not in file.hosts:
                    mending = f"{closest(host, file.hosts)} or add [hosts.{host}]"
                    yield Finding(key=key, problem=f'host "{host}" is not under [hosts]', mending=mending)
                if (host, each.name) in owner:
                    problem = f"{each.name} of {host} is a file of {owner[host, each.name]} already"
                    yield Finding(key=key, problem=problem, mending="name each file of a host once")
                owner[host, each.name] = name


def _agents_have_a_key(file: InventoryFile) -> Iterator[Finding]:
    if file.hosts and file.agents is None:
        yield Finding(
            key="agents.key",
            problem="is missing, and there are hosts: no agent takes an unsigned command",
            mending='add [agents] with key = { file = "secrets/agent-key" }',
        )


def _store_is_safe(file: InventoryFile) -> Iterator[Finding]:
    url = file.store.url
    if url.startswith(forms.SQLITE):
        if file.store.password is not None:
            yield Finding(key="store.password", problem="sqlite has no password", mending="take it out")
        remote = sorted(
            {h for t in file.hosts.values() if not forms.is_loopback(h := forms.host_of(t.agent))}
        )
        if len(remote) > 1:
            yield Finding(
                key="store.url",
                problem=f"sqlite is for one host, and there are agents on {', '.join(remote)}",
                mending="use postgresql+psycopg://user@host/database on a server of its own",
            )


def _store_is_apart(file: InventoryFile, resolve: Resolve) -> Iterator[Finding]:
    owner = owner_of_store_place(file, resolve)
    if owner is None:
        return
    insisted = file.store.on_protected_cluster
    yield Finding(
        key="store.url",
        problem=f"the store stands on a database that it recovers ({owner})",
        mending="give it a server of its own: it must answer while that database is down"
        + ("" if insisted else ", or insist: on_protected_cluster = true"),
        warning=insisted,
    )


def _redundancy(file: InventoryFile) -> Iterator[Finding]:
    for name, service in file.services.items():
        for key, problem, mending, warning in standbys.misfits(f"services.{name}", service):
            yield Finding(key=key, problem=problem, mending=mending, warning=warning)


def _broker_is_apart(file: InventoryFile) -> Iterator[Finding]:
    parts = [forms.split(url) for url in file.broker.urls]
    places = {f"{p.hostname}:{p.port or 6379}" for p in parts if p and p.scheme in ("redis", "rediss")}
    for key, service, instance in _instances(file):
        if service.kind == "redis" and instance.address in places:
            yield Finding(
                key="broker.url",
                problem=f"the broker is the protected {key}",
                mending="give the broker a server of its own: it must work while that one is down",
                warning=True,
            )


def _broker_is_one(file: InventoryFile) -> Iterator[Finding]:
    schemes = {url.partition(":")[0] for url in file.broker.urls}
    if len(schemes) > 1:
        yield Finding(
            key="broker.url",
            problem=f"URLs of several schemes: {', '.join(sorted(schemes))}",
            mending="name the nodes of one broker, all by the same scheme",
        )
    if "sentinel" in schemes and not file.broker.master_name:
        yield Finding(
            key="broker.master_name",
            problem="is missing: Sentinel watches servers by name",
            mending='add master_name = "..." as in sentinel.conf',
        )
    for key in ("master_name", "sentinel_password"):
        if "sentinel" not in schemes and getattr(file.broker, key):
            yield Finding(
                key=f"broker.{key}", problem="is for URLs of the scheme sentinel", mending="take it out"
            )


def _tls_fits(file: InventoryFile) -> Iterator[Finding]:
    for key, problem, mending, warning in tls.misfits(file):
        yield Finding(key=key, problem=problem, mending=mending, warning=warning)


def _external_fits(file: InventoryFile) -> Iterator[Finding]:
    for name, table in file.external.items():
        for key, problem, mending, warning in outside.misfits(f"external.{name}", table):
            yield Finding(key=key, problem=problem, mending=mending, warning=warning)


def _webhooks(file: InventoryFile) -> Iterator[Finding]:
    for name, count in Counter(table.name for table in file.webhooks).items():
        if count > 1:
            problem = f"{count} webhooks bear this name"
            yield Finding(key=f"webhooks.{name}.name", problem=problem, mending="give each its own")
    for table in file.webhooks:
        if table.name == EXCHANGE:
            problem = "is the name of the events' exchange"
            yield Finding(key=f"webhooks.{table.name}.name", problem=problem, mending="give it another")
        if table.url.startswith("http:") and not forms.is_loopback(forms.host_of(table.url)):
            yield Finding(
                key=f"webhooks.{table.name}.url",
                problem="is not encrypted: events are signed, but anybody on the way can read them",
                mending="use https",
                warning=True,
            )


_RULES: tuple[Callable[[InventoryFile], Iterator[Finding]], ...] = (
    _hosts_exist,
    _names_are_unique,
    _names_are_known_once,
    _addresses_are_unique,
    _dependencies,
    _kinds_fit,
    _led_by_others_fits,
    _backends_have_one_owner,
    _files_fit,
    _agents_have_a_key,
    _store_is_safe,
    _redundancy,
    _broker_is_apart,
    _broker_is_one,
    _tls_fits,
    _external_fits,
    _webhooks,
)
