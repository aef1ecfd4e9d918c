"""ServiceRegistry: who is in rotation, who could step in."""

from __future__ import annotations

import pytest

from ha_tasks.errors import UsageError
from ha_tasks.failover.service_discovery import ServiceRegistry
from ha_tasks.model.balancer import ServerState
from ha_tasks.model.platform import Instance, Platform, Role, Routing, Service, ServiceKind
from tests.fakes.clock import START
from tests.fakes.registrations import FakeRegistrations
from tests.fakes.repositories import FakeWantedServers

READY, DRAIN, MAINT = ServerState.READY, ServerState.DRAIN, ServerState.MAINT
ROLES = {"web1": Role.ACTIVE, "web2": Role.ACTIVE, "web3": Role.SPARE, "web4": Role.SPARE}
WEB = Service(
    name="web",
    kind=ServiceKind.HTTP,
    instances=tuple(
        Instance(name=name, service="web", host="app", address="127.0.0.1:1", role=role)
        for name, role in ROLES.items()
    ),
    routing=Routing(backend="web", entry="http://127.0.0.1:1/"),
)


def registry(**states: ServerState) -> ServiceRegistry:
    """What is wanted of the servers in backend ``web``."""
    wanted = FakeWantedServers()
    wanted.want({("web", name): state for name, state in states.items()}, "as told", START)
    wanted.want({("api", "web3"): READY}, "another backend", START)
    platform = Platform(name="p", services={"web": WEB}, hosts={}, balancers={})
    return ServiceRegistry(platform, wanted, FakeRegistrations())


@pytest.mark.parametrize(
    ("states", "rotation", "backup"),
    [
        pytest.param({}, ("web1", "web2"), "web3", id="as configured"),
        pytest.param({"web1": MAINT}, ("web2",), "web3", id="one taken out"),
        pytest.param({"web1": MAINT, "web3": READY}, ("web2", "web3"), "web4", id="a spare is in"),
        pytest.param({"web3": READY, "web4": READY}, tuple(ROLES), None, id="no spare left"),
        pytest.param({"web3": DRAIN}, ("web1", "web2"), "web3", id="a spare on its way out"),
        pytest.param({"web1": MAINT, "web2": MAINT}, ("web1", "web2"), "web3", id="never nobody"),
    ],
)
def test_rotation_and_backup_follow_what_is_wanted(
    states: dict[str, ServerState], rotation: tuple[str, ...], backup: str | None
) -> None:
    found = registry(**states)
    spare = found.get_backup_instance("web")

    assert found.in_rotation("web") == rotation
    assert (spare.name if spare else None) == backup


def test_a_spare_that_is_known_to_be_unfit_is_passed_over() -> None:
    spare = registry().get_backup_instance("web", unfit={"web3"})

    assert spare is not None
    assert spare.name == "web4"


def test_instances_and_roles_are_the_inventory_s() -> None:
    assert [instance.name for instance in registry().instances("web")] == list(ROLES)
    assert registry().roles("web") == ROLES


def test_an_unknown_service_is_an_error_of_usage() -> None:
    with pytest.raises(UsageError, match="no service api"):
        registry().in_rotation("api")
