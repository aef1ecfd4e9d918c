"""From the tables of the file to values of the model."""

from __future__ import annotations

from pathlib import Path

from ha_tasks.inventory.schema import InventoryFile
from ha_tasks.inventory.schema_health import ExternalTable
from ha_tasks.inventory.schema_services import (
    TIERS,
    InstanceTable,
    PatroniTable,
    PoolerTable,
    PostgresTable,
    RedisTable,
    RoutingTable,
    SentinelTable,
    ServiceTable,
)
from ha_tasks.inventory.tls import settings_of
from ha_tasks.model.platform import (
    Balancer,
    Check,
    DataPolicy,
    External,
    ExternalKind,
    Host,
    Instance,
    Limits,
    ManagedBy,
    PatroniApi,
    Platform,
    Policies,
    PoolerSettings,
    PostgresSettings,
    RedisSettings,
    Role,
    Routing,
    SentinelApi,
    Service,
    ServiceKind,
    VersionedFile,
    Webhook,
)


def platform_from(file: InventoryFile, directory: Path) -> Platform:
    """The platform that the file describes; relative paths in it count from ``directory``."""
    return Platform(
        name=file.platform.name,
        services={name: _service(name, table, directory) for name, table in file.services.items()},
        hosts={
            name: Host(
                name=name,
                agent_url=table.agent,
                stonith=tuple(table.stonith),
                limits=Limits(**table.limits.model_dump()),
            )
            for name, table in file.hosts.items()
        },
        external={name: _external(name, table, directory) for name, table in file.external.items()},
        balancers={name: Balancer(name=name, socket=table.socket) for name, table in file.balancers.items()},
        policies=Policies(**file.policies.model_dump()),
        webhooks={
            table.name: Webhook(name=table.name, url=table.url, events=tuple(table.events))
            for table in file.webhooks
        },
    )


def _service(name: str, table: ServiceTable, directory: Path) -> Service:
    return Service(
        name=name,
        kind=ServiceKind(table.kind),
        instances=tuple(_instance(name, table.kind, instance) for instance in table.instances),
        routing=_routing(table.routing),
        check=Check(**table.check.model_dump()),
        postgres=_postgres(table.postgres),
        redis=_redis(table.redis),
        pooler=_pooler(table.pooler),
        files=tuple(VersionedFile(name=f.name, host=host) for f in table.files for host in f.hosts),
        depends_on=tuple(table.depends_on),
        weight=TIERS[table.tier],
        rto_s=table.rto_s,
        rpo_s=table.rpo_s,
        managed_by=ManagedBy(table.managed_by),
        patroni=_patroni(table.patroni, directory),
        sentinel=_sentinel(table.sentinel),
    )


def _instance(service: str, kind: str, table: InstanceTable) -> Instance:
    return Instance(
        name=table.name,
        service=service,
        host=table.host or "",
        address=table.address,
        role=Role.NODE if kind == "postgres" else Role(table.role or "active"),
        unit=table.unit,
        priority=table.priority,
        site=table.site or "",
        synchronous=table.sync,
    )


def _external(name: str, table: ExternalTable, directory: Path) -> External:
    return External(
        name=name,
        kind=ExternalKind(table.kind),
        target=table.target,
        timeout_s=table.timeout_s,
        expect_status=table.expect_status,
        expires_within_days=table.expires_within_days,
        weight=TIERS[table.tier],
        remedy=table.remedy,
        tls=None if table.tls is None else settings_of(table.tls, directory),
    )


def _routing(table: RoutingTable | None) -> Routing | None:
    return None if table is None else Routing(**table.model_dump())


def _postgres(table: PostgresTable | None) -> PostgresSettings | None:
    if table is None:
        return None
    return PostgresSettings(
        database=table.database, user=table.user, policy=DataPolicy(table.policy or DataPolicy.DURABILITY)
    )


def _redis(table: RedisTable | None) -> RedisSettings | None:
    return None if table is None else RedisSettings(replicated=table.replicated)


def _pooler(table: PoolerTable | None) -> PoolerSettings | None:
    if table is None:
        return None
    return PoolerSettings(addresses=tuple(table.addresses), user=table.user, database=table.database)


def _patroni(table: PatroniTable | None, directory: Path) -> PatroniApi | None:
    if table is None:
        return None
    tls = None if table.tls is None else settings_of(table.tls, directory)
    return PatroniApi(urls=tuple(url.rstrip("/") for url in table.api), user=table.user, tls=tls)


def _sentinel(table: SentinelTable | None) -> SentinelApi | None:
    return None if table is None else SentinelApi(addresses=tuple(table.addresses), name=table.name)
