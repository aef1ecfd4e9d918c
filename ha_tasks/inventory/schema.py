"""The shape of ha-tasks.toml: every key, its type, its default and what it is for.

The JSON schema for editors and the settings table of the reference page are made from these classes.
Strict: an unknown key is an error that names it, and nothing is converted silently.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ha_tasks.inventory import forms
from ha_tasks.inventory.schema_base import (
    ActionWord,
    Address,
    Count,
    Name,
    Seconds,
    SecretTable,
    Table,
    TlsTable,
)
from ha_tasks.inventory.schema_health import ExternalTable, LimitsTable
from ha_tasks.inventory.schema_services import ServiceTable


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
    """What one's own action or check is given; the names inside are its own."""

    settings: dict[str, str] = Field(default_factory=dict, description="Settings, as texts.")
    secrets: dict[Name, SecretTable] = Field(
        default_factory=dict, description="Secret references; each is read when it is needed."
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
    limits: LimitsTable = Field(
        default_factory=LimitsTable, description="Up to where it is called well in the system's health."
    )


class BalancerTable(Table):
    """One HAProxy."""

    socket: Annotated[str, AfterValidator(forms.socket)] = Field(
        description="Its runtime API: `tcp://host:port` or `unix:///path`."
    )


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
    checks: dict[ActionWord, ActionTable] = Field(
        default_factory=dict, description="What one's own health checks are given, by the check's name."
    )
    hosts: dict[Name, HostTable] = Field(
        default_factory=dict, description="Machines with a host agent, by name."
    )
    balancers: dict[Name, BalancerTable] = Field(default_factory=dict, description="Each HAProxy, by name.")
    services: dict[Name, ServiceTable] = Field(min_length=1, description="Protected services, by name.")
    external: dict[Name, ExternalTable] = Field(
        default_factory=dict, description="What the platform needs and does not own, by name."
    )
    webhooks: list[WebhookTable] = Field(
        default_factory=list, description="Endpoints that are told of events; see the contract page."
    )
    policies: PoliciesTable = Field(default_factory=PoliciesTable, description="Limits of the automation.")
