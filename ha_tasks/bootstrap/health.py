"""Looking at instances, and at the health of the whole system, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_tasks.adapters.host_readings import LocalHost
from ha_tasks.adapters.http_probe import HttpProber
from ha_tasks.adapters.led_probe import LedProber
from ha_tasks.adapters.outside_check import OutsideCheck
from ha_tasks.adapters.postgres_depth import PostgresDepth
from ha_tasks.adapters.postgres_probe import PostgresProber
from ha_tasks.adapters.redis_depth import RedisDepth
from ha_tasks.adapters.redis_probe import RedisProber
from ha_tasks.bootstrap.own_checks import own_checks
from ha_tasks.failover.checkup import Checkup, Instruments
from ha_tasks.failover.health_monitor import HealthMonitor
from ha_tasks.model.platform import ServiceKind
from ha_tasks.ports.checks import ExternalCheck
from ha_tasks.workflows.system_health import MonitorSystemHealth

if TYPE_CHECKING:
    from ha_tasks.bootstrap.system import System


def health_monitor_of(system: System, http: HttpProber) -> HealthMonitor:
    """Looks at every instance; one prober per kind of service."""
    inventory, clock, actor = system.inventory, system.clock, system.actor
    databases = PostgresProber(
        vantage=actor, clock=clock, agents=system.agents, password=inventory.secret_for
    )
    return HealthMonitor(
        {
            ServiceKind.HTTP: http,
            ServiceKind.POSTGRES: LedProber(databases, system.led.word, clock),
            ServiceKind.REDIS: LedProber(
                RedisProber(vantage=actor, clock=clock, password=inventory.secret_for), system.led.word, clock
            ),
        }
    )


def checkup_of(system: System) -> Checkup:
    """Every check of the platform's inventory."""
    secret_for, clock = system.inventory.secret_for, system.clock
    instruments = Instruments(
        ledger=system.store.ledger,
        replication=system.store.replication,
        agents=system.agents,
        here=LocalHost(),
        databases={
            ServiceKind.POSTGRES: PostgresDepth(control=system.control, password=secret_for, clock=clock),
            ServiceKind.REDIS: RedisDepth(password=secret_for, clock=clock),
        },
        outside=outside_of(system),
        own=own_checks(system.inventory, clock),
        clock=clock,
    )
    return Checkup(system.platform, instruments)


def outside_of(system: System) -> ExternalCheck:
    """Looks at what the platform needs and does not own."""
    return OutsideCheck(system.clock)


def monitor_of(system: System) -> MonitorSystemHealth:
    """The operation of that name."""
    return MonitorSystemHealth(checkup_of(system), system.store.health, system.clock)
