"""One contract for managers of clusters: the fake, and a real Patroni with its etcd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ha_tasks.adapters.clock import SYSTEM_CLOCK
from ha_tasks.adapters.patroni import PatroniManager
from ha_tasks.errors import ManagerRefused, ManagerUnreachable, UsageError
from ha_tasks.model.led_by_others import LedCluster, MemberRole
from ha_tasks.model.platform import ManagedBy, PatroniApi, Service
from ha_tasks.ports.cluster_manager import ClusterManager
from tests.fakes.cluster_manager import FakeClusterManager
from tests.patroni_cluster import API_PASSWORD, API_USER, PatroniCluster, led_service, running_patroni
from tests.servers import free_port
from tests.unit.builders import database


@pytest.fixture(scope="module")
def patroni(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PatroniCluster]:
    with running_patroni(tmp_path_factory.mktemp("patroni"), nodes=2) as cluster:
        yield cluster


@pytest.fixture(
    params=[
        "fake",
        pytest.param("patroni", marks=[pytest.mark.needs("etcd"), pytest.mark.needs("postgresql")]),
    ]
)
def led(request: pytest.FixtureRequest) -> tuple[ClusterManager, Service]:
    if request.param == "fake":
        return FakeClusterManager(("n1", "n2")), replace(database(), managed_by=ManagedBy.PATRONI)
    cluster = request.getfixturevalue("patroni")
    cluster.await_whole()
    return real(), led_service(cluster)


def real(password: str = API_PASSWORD) -> PatroniManager:
    return PatroniManager(password=lambda _: password, clock=SYSTEM_CLOCK)


def eventually(report: Callable[[], LedCluster], good: Callable[[LedCluster], bool]) -> LedCluster:
    ends = time.monotonic() + 20
    while not good(found := report()):
        assert time.monotonic() < ends, found
        time.sleep(0.1)
    return found


def test_a_report_names_leader_members_and_timeline(led: tuple[ClusterManager, Service]) -> None:
    manager, service = led

    found = manager.report(service)

    assert found.leading is not None
    assert found.timeline is not None
    assert found.timeline >= 1
    assert {m.name for m in found.members} == {"n1", "n2"}
    (standby,) = [m for m in found.members if m.name != found.leader]
    assert (standby.role, standby.state, standby.lag_bytes) == (MemberRole.REPLICA, "streaming", 0)
    assert not found.paused
    assert not any(m.pending_restart for m in found.members)


def switched(manager: ClusterManager, service: Service) -> None:
    before = manager.report(service)
    assert before.leader is not None
    assert before.timeline is not None
    (candidate,) = [m.name for m in before.members if m.name != before.leader]

    said = manager.switchover(service, before.leader, candidate)

    assert candidate in said
    # Members tell their store of a new timeline a moment after it is there.
    wanted = (candidate, before.timeline + 1)
    eventually(lambda: manager.report(service), lambda c: (c.leader, c.timeline) == wanted)


def test_a_switchover_makes_the_candidate_the_leader_on_a_new_timeline() -> None:
    switched(FakeClusterManager(("n1", "n2")), replace(database(), managed_by=ManagedBy.PATRONI))


@pytest.mark.full
@pytest.mark.needs("etcd", "postgresql")
def test_patroni_switches_over_on_a_new_timeline(patroni: PatroniCluster) -> None:
    patroni.await_whole()

    switched(real(), led_service(patroni))

    patroni.await_whole()


def test_a_switchover_from_somebody_who_leads_no_more_is_refused(
    led: tuple[ClusterManager, Service],
) -> None:
    manager, service = led
    now = manager.report(service)
    assert now.leader is not None
    (other,) = [m.name for m in now.members if m.name != now.leader]

    with pytest.raises(ManagerRefused, match="leader name does not match"):
        manager.switchover(service, other, now.leader)

    assert manager.report(service).leader == now.leader


def test_a_candidate_that_does_not_exist_is_refused(led: tuple[ClusterManager, Service]) -> None:
    manager, service = led
    leader = manager.report(service).leader
    assert leader is not None

    with pytest.raises(ManagerRefused, match="candidate does not exist"):
        manager.switchover(service, leader, "n9")


@pytest.mark.needs("etcd", "postgresql")
def test_a_wrong_login_is_refused_with_the_keys_that_mend_it(patroni: PatroniCluster) -> None:
    service, wrong = led_service(patroni), real("wrong")
    leader = patroni.await_whole()

    with pytest.raises(ManagerRefused, match=r"services\.db\.patroni\.password") as refused:
        wrong.switchover(service, leader, "n1")

    assert "wrong" not in str(refused.value)


@pytest.mark.needs("etcd", "postgresql")
def test_one_member_that_answers_is_enough(patroni: PatroniCluster) -> None:
    service = led_service(patroni)
    assert service.patroni is not None
    urls = (f"http://127.0.0.1:{free_port()}", *service.patroni.urls)
    leader = patroni.await_whole()

    assert real().report(replace(service, patroni=PatroniApi(urls=urls, user=API_USER))).leader == leader


@pytest.mark.parametrize("verb", ["report", "switchover"])
def test_nobody_there_is_told_with_the_address_and_the_reason(verb: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    service = replace(database(), managed_by=ManagedBy.PATRONI, patroni=PatroniApi(urls=(url,)))
    call = real().report if verb == "report" else lambda s: real().switchover(s, "n1", "n2")

    with pytest.raises(ManagerUnreachable, match=r"127\.0\.0\.1:\d+: connection refused"):
        call(service)


def test_a_service_without_an_api_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match=r"\[services\.db\.patroni\]"):
        real().report(database())
