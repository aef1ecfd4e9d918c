"""The shape of ha-tasks.toml: every key, its type, its default and what it is for.

The JSON schema for editors and the settings table of the reference page are made from these classes.
Strict: an unknown key is an error that names it, and nothing is converted silently.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from ha_tasks.inventory import forms
from ha_tasks.model.action import OWN_NAME

Name = Annotated[
    str,
    AfterValidator(forms.name),
    WithJsonSchema({"type": "string", "pattern": forms.NAME_PATTERN}),
]
ActionWord = Annotated[
    str,
    AfterValidator(forms.own_action),
    WithJsonSchema({"type": "string", "pattern": f"^{OWN_NAME.pattern}$"}),
]
Address = Annotated[str, AfterValidator(forms.address)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

TIERS = {"critical": 4.0, "high": 2.0, "normal": 1.0, "low": 0.5}


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SecretTable(Table):
    """Where a secret is found; exactly one of the three keys."""

    file: str | None = Field(
        default=None,
        min_length=1,
        description="Path of a file that holds it, closed to others.",
    )
    env: str | None = Field(
        default=None, min_length=1, description="Name of an environment variable that holds it."
    )
    command: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Program and arguments; what it prints within 10 s is the secret."
    )

    @model_validator(mode="after")
    def _one(self) -> SecretTable:
        if sum(source is not None for source in (self.file, self.env, self.command)) != 1:
            raise ValueError(
                "must name one source of the secret",
                'write one of { file = "path" }, { env = "NAME" }, { command = ["program", "argument"] }',
            )
        return self


class TlsTable(Table):
    """Whose certificates count on an encrypted connection; an empty table verifies as well."""

    ca: str | None = Field(
        default=None,
        min_length=1,
        description="Path of the authorities (PEM) for the server's certificate; left out: the machine's.",
    )
    certificate: str | None = Field(
        default=None, min_length=1, description="Path of our own certificate (PEM), where the server asks."
    )
    key: str | None = Field(
        default=None, min_length=1, description="Path of its key (PEM), a file that is closed to others."
    )
    verify: bool = Field(
        default=True, description="`false` encrypts, and trusts whoever answers; for a trial only."
    )


class PlatformTable(Table):
    """What is protected, as a whole."""

    name: Name = Field(description="Name of the platform, shown in every report.")


class StoreTable(Table):
    """Where the control plane keeps its truth; never on a database that it recovers."""

    url: Annotated[str, AfterValidator(forms.store_url)] = Field(
        description="`sqlite:///ha.db` (relative to this file; one host only) or "
        "`postgresql+psycopg://user@host/database`."
    )
    password: SecretTable | None = Field(
        default=None, description="Secret reference: password of the store's user."
    )
    on_protected_cluster: bool = Field(
        default=False,
        description="Insist on a store that stands on a database it recovers: while that is down, "
        "nothing is recovered automatically.",
    )
    tls: TlsTable | None = Field(
        default=None,
        description="TLS to a PostgreSQL store (`sslmode=verify-full`); left out: libpq's default.",
    )


class BrokerTable(Table):
    """The broker that carries the messages of the workers."""

    url: Annotated[str | list[str], AfterValidator(forms.broker_urls)] = Field(
        description="`redis://host:port/0`; rediss, sentinel, amqp and amqps too. A list: tried in order."
    )
    password: SecretTable | None = Field(
        default=None, description="Secret reference: password of the broker's user."
    )
    master_name: str = Field(
        default="", description="What Sentinel calls the server (URLs of the scheme sentinel)."
    )
    sentinel_password: SecretTable | None = Field(
        default=None, description="Secret reference: password of the Sentinels themselves."
    )
    tls: TlsTable | None = Field(
        default=None,
        description="TLS to the broker (rediss, amqps); left out: verified by the machine's authorities.",
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, in the order in which they are tried."""
        return (self.url,) if isinstance(self.url, str) else tuple(self.url)


class AgentsTable(Table):
    """The host agents."""

    key: SecretTable = Field(
        description="Secret reference: the key that signs every request to an agent and every answer."
    )


class MetricsTable(Table):
    """The metrics sidecar."""

    listen: Address = Field(default="127.0.0.1:9808", description="Address on which /metrics is served.")


class AuditTable(Table):
    """The audit chain."""

    heads: str = Field(
        default="audit/heads.jsonl",
        min_length=1,
        description="File outside the database, relative to this file, to which heads of the audit chain are "
        "appended: by it a rewritten chain is found.",
    )


class PlaybooksTable(Table):
    """Playbooks beside the shipped ones."""

    directories: list[str] = Field(
        default_factory=list, description="Directories with own playbooks (*.toml), relative to this file."
    )


class ActionTable(Table):
    """What one's own action is given; the names inside are the action's own."""

    settings: dict[str, str] = Field(default_factory=dict, description="Settings, as texts.")
    secrets: dict[Name, SecretTable] = Field(
        default_factory=dict, description="Secret references; the action reads each when it needs it."
    )


class HostTable(Table):
    """A machine with a host agent."""

    agent: Annotated[str, AfterValidator(forms.web_url)] = Field(
        description="URL of its host agent, like `http://10.0.0.5:7100`."
    )
    stonith: list[str] = Field(
        default_factory=list,
        description="Command that switches it off, word by word; exit status 0: it is off. Run only when a "
        "failover with possible loss needs the proof that its primary is dead.",
    )


class BalancerTable(Table):
    """One HAProxy."""

    socket: Annotated[str, AfterValidator(forms.socket)] = Field(
        description="Its runtime API: `tcp://host:port` or `unix:///path`."
    )


class CheckTable(Table):
    """How each instance of a service is probed."""

    path: str = Field(default="/", pattern="^/", description="Path of a GET, begins with / (kind http).")
    expect_status: int = Field(
        default=200, ge=100, le=599, description="HTTP status that means healthy (kind http)."
    )
    interval_s: Seconds = Field(default=0.5, description="Seconds from probe to probe.")
    timeout_s: Seconds = Field(default=0.5, description="Seconds after which a probe counts as failed.")


class RoutingTable(Table):
    """Where HAProxy serves a service."""

    backend: Name = Field(description="Name of the backend in HAProxy that takes its traffic (writes).")
    entry: str = Field(min_length=1, description="What clients use: an URL (kind http), else `host:port`.")
    read_backend: Name | None = Field(
        default=None, description="Name of the backend for reads (kind postgres)."
    )
    read_entry: Address | None = Field(default=None, description="`host:port` that clients use for reads.")


class PostgresTable(Table):
    """How the control plane reaches a PostgreSQL cluster."""

    database: str = Field(min_length=1, description="Database to which the control plane connects.")
    user: str = Field(min_length=1, description="Role with which it connects.")
    password: SecretTable | None = Field(
        default=None,
        description="Secret reference: password of that role; left out: the servers ask for none.",
    )
    policy: Literal["durability", "availability"] | None = Field(
        default=None,
        description="When it must choose: stall and lose nothing (`durability`), or go on and show the "
        "possible loss (`availability`). Left out: durability; a cluster of two nodes must choose.",
    )


class PoolerTable(Table):
    """The pgbouncers through which clients come to a PostgreSQL service: a switchover holds them there."""

    addresses: list[Address] = Field(
        min_length=1, description="`host:port` of each pgbouncer, whose admin console is used."
    )
    user: str = Field(min_length=1, description="User of the console, one of its `admin_users`.")
    password: SecretTable | None = Field(
        default=None, description="Secret reference: password of that user; left out: it asks for none."
    )
    database: str = Field(
        pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the service's entry in its `[databases]`."
    )


class PatroniTable(Table):
    """Patroni's REST API, for a cluster that Patroni leads."""

    api: Annotated[list[Annotated[str, AfterValidator(forms.web_url)]], Field(min_length=1)] = Field(
        description="URL of each member's REST API, like `http://10.0.0.5:8008`; one that answers is enough."
    )
    user: str | None = Field(
        default=None,
        min_length=1,
        description="Login for switchovers (`restapi.authentication` there); left out: none is asked for.",
    )
    password: SecretTable | None = Field(default=None, description="Secret reference: its password.")
    tls: TlsTable | None = Field(
        default=None,
        description="Whose certificates count for https; left out: verified by the machine's authorities.",
    )


class RedisTable(Table):
    """How the control plane reaches a Redis or Valkey service."""

    password: SecretTable | None = Field(
        default=None,
        description="Secret reference: password of its default user; left out: it asks for none.",
    )


class InstanceTable(Table):
    """One process that serves."""

    name: Name = Field(description="Its name, and its server name in HAProxy.")
    address: Address = Field(description="`host:port` where it listens.")
    host: Name | None = Field(
        default=None,
        description="Its machine, a name under [hosts]; needed to restart or recover it.",
    )
    role: Literal["active", "spare"] | None = Field(
        default=None,
        description="`active` (default) or `spare`; left out for kind postgres: servers are asked.",
    )
    unit: Name | None = Field(
        default=None, description="Unit that the host's agent restarts; left out: it is not restarted by us."
    )


class ServiceTable(Table):
    """A protected service."""

    kind: Literal["http", "postgres", "redis"] = Field(description="How it is probed and recovered.")
    tier: Literal["critical", "high", "normal", "low"] = Field(
        default="normal", description="Weight in the availability of the platform: 4, 2, 1, 0.5."
    )
    depends_on: list[Name] = Field(
        default_factory=list, description="Services that it needs; they are recovered first."
    )
    rto_s: Seconds = Field(default=30.0, description="Objective: seconds from failure to service.")
    rpo_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Objective: seconds of data that may be lost."
    )
    managed_by: Literal["ha_tasks", "patroni", "external"] = Field(
        default="ha_tasks",
        description="Who recovers it; anything but ha_tasks is watched and never acted on. `patroni` is for "
        "kind postgres and needs [services.NAME.patroni].",
    )
    check: CheckTable = Field(default_factory=CheckTable, description="How its instances are probed.")
    routing: RoutingTable | None = Field(default=None, description="Where HAProxy serves it.")
    postgres: PostgresTable | None = Field(default=None, description="Connection settings (kind postgres).")
    pooler: PoolerTable | None = Field(
        default=None, description="The connection poolers in front of it (kind postgres)."
    )
    patroni: PatroniTable | None = Field(default=None, description="Patroni's REST API (managed_by patroni).")
    redis: RedisTable | None = Field(default=None, description="Connection settings (kind redis).")
    instances: list[InstanceTable] = Field(min_length=1, description="The processes that serve it.")


class WebhookTable(Table):
    """An endpoint that is told of events."""

    name: Name = Field(description="Its name in metrics and logs; how far it was told is kept by it.")
    url: Annotated[str, AfterValidator(forms.web_url)] = Field(
        description="Where each event is posted: https, or http within a network that one trusts."
    )
    secret: SecretTable = Field(
        description="Secret reference: what signs every event; read anew for each, so it can be changed."
    )
    events: Annotated[list[Annotated[str, AfterValidator(forms.event_pattern)]], Field(min_length=1)] = Field(
        default=["incident.*", "run.*"],
        description="Patterns of the events that it is told: `incident.*`, `run.succeeded`, `*`.",
    )


class PoliciesTable(Table):
    """Limits of the automation."""

    lease_s: Seconds = Field(default=3.0, description="Seconds after which a silent executor is taken over.")
    min_vantages: Count = Field(
        default=2,
        description="Fresh vantages that a verdict needs; fewer is BLIND: an alert, never an action.",
    )
    max_concurrent_runs: Count = Field(default=2, description="Recoveries that may run at the same time.")
    max_runs_per_hour: Count = Field(default=60, description="Recoveries per hour, then a person is called.")
    just_promoted_s: float = Field(
        default=10.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which a primary is not failed over again after its promotion.",
    )
    approval_within_s: Seconds = Field(
        default=3600.0, description="Seconds for which a run waits for a person's approval."
    )
    four_eyes: bool = Field(
        default=False, description="`true`: nobody approves what they have asked for themselves."
    )
    probe_retention_s: Seconds = Field(
        default=3600.0, description="Seconds for which outcomes of probes are kept."
    )


class InventoryFile(Table):
    """ha-tasks.toml: the platform that ha_tasks protects."""

    schema_: Literal[1] = Field(alias="schema", description="Version of this format: 1.")
    platform: PlatformTable = Field(description="What is protected, as a whole.")
    store: StoreTable = Field(description="Where the control plane keeps its truth.")
    broker: BrokerTable = Field(description="The broker of the workers.")
    agents: AgentsTable | None = Field(
        default=None, description="The host agents; needed when there are hosts."
    )
    metrics: MetricsTable = Field(default_factory=MetricsTable, description="The metrics sidecar.")
    audit: AuditTable = Field(default_factory=AuditTable, description="The audit chain.")
    playbooks: PlaybooksTable = Field(
        default_factory=PlaybooksTable, description="Playbooks beside the shipped ones."
    )
    actions: dict[ActionWord, ActionTable] = Field(
        default_factory=dict, description="What one's own actions are given, by the action's name."
    )
    hosts: dict[Name, HostTable] = Field(
        default_factory=dict, description="Machines with a host agent, by name."
    )
    balancers: dict[Name, BalancerTable] = Field(default_factory=dict, description="Each HAProxy, by name.")
    services: dict[Name, ServiceTable] = Field(min_length=1, description="Protected services, by name.")
    webhooks: list[WebhookTable] = Field(
        default_factory=list, description="Endpoints that are told of events; see the contract page."
    )
    policies: PoliciesTable = Field(default_factory=PoliciesTable, description="Limits of the automation.")
