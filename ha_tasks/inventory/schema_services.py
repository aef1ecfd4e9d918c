"""The tables of ha-tasks.toml that describe a protected service: how it is reached, and what serves it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ha_tasks.inventory import forms
from ha_tasks.inventory.schema_base import Address, Name, Seconds, SecretTable, Table, TlsTable

TIERS = {"critical": 4.0, "high": 2.0, "normal": 1.0, "low": 0.5}


class CheckTable(Table):
    """How each instance of a service is probed."""

    path: str = Field(default="/", pattern="^/", description="Path of a GET, begins with / (kind http).")
    expect_status: int = Field(
        default=200, ge=100, le=599, description="HTTP status that means healthy (kind http)."
    )
    interval_s: Seconds = Field(default=0.5, description="Seconds from probe to probe.")
    timeout_s: Seconds = Field(default=0.5, description="Seconds after which a probe counts as failed.")
    restart_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="Seconds that a mere restart may take: refused connections are no failure before "
        "(not of kind postgres). 0: two in a row are.",
    )


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


class SentinelTable(Table):
    """The Sentinels that lead a Redis or Valkey service."""

    addresses: list[Address] = Field(
        min_length=1, description="`host:port` of each Sentinel; a majority of these has to agree."
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]+$", description="Name under which they watch it (`sentinel monitor NAME`)."
    )
    password: SecretTable | None = Field(
        default=None, description="Secret reference: the Sentinels' password; left out: they ask for none."
    )


class RedisTable(Table):
    """How the control plane reaches a Redis or Valkey service."""

    password: SecretTable | None = Field(
        default=None,
        description="Secret reference: password of its default user; left out: it asks for none.",
    )
    replicated: bool = Field(
        default=False,
        description="`true`: one instance is the primary, the others its replicas (the servers say which); "
        "their replication is watched. Left out: each serves for itself.",
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
    priority: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="Of standbys with the same data the one with the highest is promoted (kind postgres).",
    )
    site: Name | None = Field(
        default=None,
        description="Where it stands; of standbys of the same data and priority one at the site of the old "
        "primary is promoted (kind postgres).",
    )
    sync: bool = Field(
        default=True,
        description="`false`: no commit ever waits for it, as for a copy in another region; it is promoted "
        "only by a person who accepts the loss (kind postgres).",
    )


class FileTable(Table):
    """A configuration file, or a link to a release, of which versions are kept and gone back to."""

    name: Name = Field(description="Its name, as in `[files.NAME]` of the agents' agent.toml.")
    hosts: Annotated[list[Name], Field(min_length=1)] = Field(
        description="Machines where it is, names under [hosts], in the order in which it is exchanged."
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
    managed_by: Literal["ha_tasks", "patroni", "sentinel", "external"] = Field(
        default="ha_tasks",
        description="Who recovers it; anything but ha_tasks is watched and never acted on. `patroni` is for "
        "kind postgres and needs [services.NAME.patroni], `sentinel` is for kind redis and needs "
        "[services.NAME.sentinel].",
    )
    check: CheckTable = Field(default_factory=CheckTable, description="How its instances are probed.")
    routing: RoutingTable | None = Field(default=None, description="Where HAProxy serves it.")
    postgres: PostgresTable | None = Field(default=None, description="Connection settings (kind postgres).")
    pooler: PoolerTable | None = Field(
        default=None, description="The connection poolers in front of it (kind postgres)."
    )
    patroni: PatroniTable | None = Field(default=None, description="Patroni's REST API (managed_by patroni).")
    sentinel: SentinelTable | None = Field(
        default=None, description="The Sentinels that lead it (managed_by sentinel)."
    )
    redis: RedisTable | None = Field(default=None, description="Connection settings (kind redis).")
    files: list[FileTable] = Field(
        default_factory=list, description="What it is served from; a bad change of it is taken back."
    )
    instances: list[InstanceTable] = Field(min_length=1, description="The processes that serve it.")
