"""The protected platform as the inventory describes it: services, instances, hosts, balancers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ha_tasks.model.tls import Tls


class ServiceKind(StrEnum):
    """What a service is, and so how it is probed and recovered."""

    HTTP = "http"
    POSTGRES = "postgres"
    REDIS = "redis"
    """Probed with PING; no playbook of its own yet."""


class Role(StrEnum):
    """What an instance is configured to be. A PostgreSQL node's real role is asked of the server."""

    ACTIVE = "active"
    SPARE = "spare"
    NODE = "node"


class DataPolicy(StrEnum):
    """What a PostgreSQL cluster does when it must choose."""

    DURABILITY = "durability"
    AVAILABILITY = "availability"


class ManagedBy(StrEnum):
    """Who recovers a service. Anything but HA_TASKS: it is watched and alerted on, never acted on."""

    HA_TASKS = "ha_tasks"
    PATRONI = "patroni"
    SENTINEL = "sentinel"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Up to where a machine is well. ``load``: runnable tasks per core; the others: shares in use, 0 to 1."""

    load: float = 4.0
    memory: float = 0.92
    disk: float = 0.9
    descriptors: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine with a host agent; ``agent_url`` is like ``http://10.0.0.5:7100``."""

    name: str
    agent_url: str
    stonith: tuple[str, ...] = ()
    """Command (argv) that switches it off; empty: there is none."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """One HAProxy; ``socket`` is ``tcp://host:port`` or ``unix:///path`` of its runtime API."""

    name: str
    socket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How an instance is probed. Times in seconds."""

    path: str = "/"
    expect_status: int = 200
    interval_s: float = 0.5
    timeout_s: float = 0.5
    restart_s: float = 0.0
    """What a mere restart may take: refused connections are no failure before. 0: two in a row are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One process that serves: ``address`` is ``host:port``; its name is its server name in HAProxy."""

    name: str
    service: str
    host: str
    address: str
    role: Role
    unit: str | None = None
    """Name of the unit that the host agent restarts; None: it cannot be restarted by us."""
    priority: int = 0
    """Of PostgreSQL nodes with the same data the one with the higher priority is promoted."""
    site: str = ""
    """Where it stands, in a word of one's own; empty: it is not told."""
    synchronous: bool = True
    """False: no commit ever waits for this PostgreSQL node, and only a person has it promoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Where HAProxy serves a service. ``entry`` is what clients use (URL, or host:port)."""

    backend: str
    entry: str
    read_backend: str | None = None
    read_entry: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """How the control plane reaches a cluster. The password is a name, resolved by bootstrap."""

    database: str
    user: str
    policy: DataPolicy = DataPolicy.DURABILITY


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """``replicated``: one instance is the primary, the others are its replicas; the servers say which."""

    replicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelApi:
    """Sentinels, ``host:port`` each, and the name under which they watch the service's primary.

    Their password is a name, as above.
    """

    addresses: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerSettings:
    """The pgbouncers in front of a cluster. ``addresses``: ``host:port`` of each admin console; ``database``:
    name of the cluster's entry in their ``[databases]``. The password is a name, resolved by bootstrap.
    """

    addresses: tuple[str, ...]
    user: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PatroniApi:
    """Where Patroni's REST API answers: base URLs of its members. The password is a name, as above.

    ``user`` None: changes are asked for without a login. ``tls`` None: https is verified by the machine's
    authorities.
    """

    urls: tuple[str, ...]
    user: str | None = None
    tls: Tls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedFile:
    """A configuration file, or a link to a release, that a service is served from: known to the agent of
    ``host`` under ``name``, which alone knows where it is.
    """

    name: str
    host: str

    @property
    def key(self) -> str:
        """How a version names it."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A protected service. ``rto_s`` and ``rpo_s`` are its objectives in seconds."""

    name: str
    kind: ServiceKind
    instances: tuple[Instance, ...]
    routing: Routing | None = None
    check: Check = field(default_factory=Check)
    postgres: PostgresSettings | None = None
    redis: RedisSettings | None = None
    pooler: PoolerSettings | None = None
    files: tuple[VersionedFile, ...] = ()
    depends_on: tuple[str, ...] = ()
    weight: float = 1.0
    """Share in system_availability_percentage: critical 4, high 2, normal 1, low 0.5."""
    rto_s: float = 30.0
    rpo_s: float = 0.0
    managed_by: ManagedBy = ManagedBy.HA_TASKS
    patroni: PatroniApi | None = None
    """With ``managed_by`` PATRONI only."""
    sentinel: SentinelApi | None = None
    """With ``managed_by`` SENTINEL only."""

    @property
    def asynchronous(self) -> frozenset[str]:
        """Names of the nodes that must never be in the synchronous set."""
        return frozenset(i.name for i in self.instances if not i.synchronous)

    @property
    def replicates(self) -> bool:
        """True when its instances are copies of one another, and so who follows whom is watched."""
        replicated = self.redis is not None and self.redis.replicated
        return self.kind is ServiceKind.POSTGRES or replicated

    def instance(self, name: str) -> Instance:
        """The instance of that name; KeyError when there is none."""
        for instance in self.instances:
            if instance.name == name:
                return instance
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Limits of the automation. Times in seconds."""

    lease_s: float = 3.0
    min_vantages: int = 2
    """Fresh vantages that a verdict needs; fewer is BLIND."""
    max_concurrent_runs: int = 2
    max_runs_per_hour: int = 60
    just_promoted_s: float = 10.0
    """So long a primary is not failed over again after its promotion."""
    approval_within_s: float = 3600.0
    """So long a run waits for a person's approval."""
    four_eyes: bool = False
    """Nobody approves what they have asked for themselves."""
    probe_retention_s: float = 3600.0


class ExternalKind(StrEnum):
    """How something outside is looked at."""

    HTTP = "http"
    TCP = "tcp"
    DNS = "dns"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """Something that the platform needs and does not own. ``target``: an URL (HTTP), ``host:port`` (TCP, TLS)
    or a name (DNS). ``weight`` as a service's; ``remedy``: what to do when it is down, in words of one's own.
    """

    name: str
    kind: ExternalKind
    target: str
    timeout_s: float = 2.0
    expect_status: int = 200
    expires_within_days: int = 14
    """A certificate (TLS, https) that ends sooner is told."""
    weight: float = 1.0
    remedy: str = ""
    tls: Tls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An endpoint that is told of events; ``events`` are patterns of verbs, like ``incident.*``."""

    name: str
    url: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Everything that is protected, by name."""

    name: str
    services: Mapping[str, Service]
    hosts: Mapping[str, Host]
    balancers: Mapping[str, Balancer]
    policies: Policies = field(default_factory=Policies)
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    external: Mapping[str, External] = field(default_factory=dict)
