"""The tables of ha-tasks.toml for the health of what is no service: machines, and what lies outside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ha_tasks.inventory.schema_base import Count, Seconds, Table, TlsTable

Share = Annotated[float, Field(gt=0, lt=1)]


class LimitsTable(Table):
    """Up to where a machine is well; above, the score of its health falls."""

    load: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=4.0, description="Runnable tasks per core, averaged over a minute."
    )
    memory: Share = Field(default=0.92, description="Share of its memory in use.")
    disk: Share = Field(default=0.9, description="Share of its fullest disk in use, of bytes or inodes.")
    descriptors: Share = Field(default=0.8, description="Share of its file descriptors in use.")


class ExternalTable(Table):
    """Something that the platform needs and does not own: looked at, never acted on."""

    kind: Literal["http", "tcp", "dns", "tls"] = Field(
        description="How it is looked at: a GET, a connection, a look-up of a name, a certificate."
    )
    target: str = Field(
        min_length=1, description="An URL (kind http), `host:port` (tcp, tls), or a name (dns)."
    )
    timeout_s: Seconds = Field(
        default=2.0, le=5, description="Seconds after which it counts as down; 5 at most."
    )
    expect_status: int = Field(
        default=200, ge=100, le=599, description="HTTP status that means healthy (kind http)."
    )
    expires_within_days: Count = Field(
        default=14, description="A certificate that ends sooner is told (kind tls, and https)."
    )
    tier: Literal["critical", "high", "normal", "low"] = Field(
        default="normal",
        description="`low`: it is shown when it is down, and makes the system not unhealthy.",
    )
    remedy: str = Field(default="", description="What to do when it is down: shown to whoever is on call.")
    tls: TlsTable | None = Field(
        default=None, description="Whose certificates count (kind tls, and https); left out: the machine's."
    )
