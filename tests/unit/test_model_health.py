"""Scores of instances and services."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ha_tasks.model.health import ServiceState, instance_score, service_health
from ha_tasks.model.platform import Instance, Role, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome, Target
from tests.fakes.clock import START


def service(kind: ServiceKind, **roles: Role) -> Service:
    instances = tuple(
        Instance(name=name, service="s", host="h", address="127.0.0.1:1", role=role)
        for name, role in roles.items()
    )
    return Service(name="s", kind=kind, instances=instances)


WEB = service(ServiceKind.HTTP, web1=Role.ACTIVE, web2=Role.ACTIVE, web3=Role.SPARE)
DB = service(ServiceKind.POSTGRES, pg1=Role.NODE, pg2=Role.NODE, pg3=Role.NODE)


def outcome(ago_s: float, *, ok: bool = True, rtt_s: float = 0.001, vantage: str = "a") -> ProbeOutcome:
    moment = START - timedelta(seconds=ago_s)
    return ProbeOutcome(
        target=Target(service="s", instance="web1"),
        vantage=vantage,
        sent_at=moment,
        known_at=moment,
        kind=OutcomeKind.OK if ok else OutcomeKind.REFUSED,
        rtt_s=rtt_s,
    )


def past(pattern: str, *, vantage: str = "a", rtt_s: float = 0.001) -> list[ProbeOutcome]:
    """``..x``: two good probes and then a bad one, 0.5 s apart, the last one just now."""
    marks = reversed(pattern)
    return [outcome(0.5 * no, ok=mark == ".", vantage=vantage, rtt_s=rtt_s) for no, mark in enumerate(marks)]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        pytest.param([], None, id="never seen"),
        pytest.param([outcome(3)], None, id="seen too long ago"),
        pytest.param(past("....."), 1.0, id="well"),
        pytest.param(past("....x"), 0.0, id="down now"),
        pytest.param(past("xxx...."), pytest.approx(4 / 7), id="was down lately"),
        pytest.param(past("xxx.........."), 1.0, id="only the last ten count"),
        pytest.param(past("....", rtt_s=0.5), 0.5, id="twice as slow as its objective"),
        pytest.param(past("x...", rtt_s=0.5), 0.5, id="the worst dimension counts"),
        pytest.param(past("...x") + past("....", vantage="b"), 7 / 8, id="one of two vantages sees it"),
        pytest.param(past("...x") + past("...x", vantage="b"), 0.0, id="no vantage sees it"),
        pytest.param([*past("....x"), outcome(9, vantage="b")], 0.0, id="a vantage that fell silent"),
    ],
)
def test_an_instance_is_as_good_as_its_worst_dimension(
    outcomes: list[ProbeOutcome], expected: float | None
) -> None:
    assert instance_score(WEB, outcomes, START) == expected


@pytest.mark.parametrize(
    ("scores", "rotation", "state", "score"),
    [
        pytest.param({"web1": 1.0, "web2": 1.0}, {"web1", "web2"}, "available", 1.0, id="all well"),
        pytest.param({"web1": 0.0, "web2": 1.0}, {"web1", "web2"}, "degraded", 0.5, id="one of two"),
        pytest.param({"web2": 1.0}, {"web2"}, "degraded", 0.5, id="one of two, the other taken out"),
        pytest.param({"web2": 1.0, "web3": 1.0}, {"web2", "web3"}, "available", 1.0, id="the spare is in"),
        pytest.param(
            {"web1": 1.0, "web2": 1.0, "web3": 1.0},
            {"web1", "web2", "web3"},
            "available",
            1.0,
            id="one more than needed",
        ),
        pytest.param({"web1": 0.0, "web2": 0.0}, {"web1", "web2"}, "unavailable", 0.0, id="all down"),
        pytest.param({"web1": 0.0, "web2": 0.0, "web3": 1.0}, {"web1"}, "unavailable", 0.0, id="spare idle"),
        pytest.param({"web1": None, "web2": None}, {"web1", "web2"}, "unknown", None, id="nobody looked"),
        pytest.param({"web1": None, "web2": 0.0}, {"web1", "web2"}, "unknown", None, id="half known"),
        pytest.param({"web1": None, "web2": 1.0}, {"web1", "web2"}, "degraded", 0.5, id="one is enough"),
        pytest.param({"web1": 0.7, "web2": 0.7}, {"web1", "web2"}, "degraded", 0.7, id="both poorly"),
        pytest.param({"web1": 1.0}, set(), "unknown", None, id="nobody in rotation"),
    ],
)
def test_an_http_service_is_up_while_somebody_in_rotation_is(
    scores: dict[str, float | None], rotation: set[str], state: str, score: float | None
) -> None:
    health = service_health(WEB, scores, rotation)

    assert (health.state, health.score) == (state, score)


@pytest.mark.parametrize(
    ("scores", "state", "score"),
    [
        pytest.param({"pg1": 1.0, "pg2": 1.0, "pg3": 1.0}, "available", 1.0, id="all well"),
        pytest.param({"pg1": 1.0, "pg2": 0.0, "pg3": 1.0}, "degraded", 2 / 3, id="a standby lost"),
        pytest.param({"pg1": 0.0, "pg2": 1.0, "pg3": 1.0}, "unavailable", 0.0, id="the primary lost"),
        pytest.param({"pg1": None, "pg2": 1.0, "pg3": 1.0}, "unknown", None, id="the primary not seen"),
    ],
)
def test_a_cluster_is_up_while_its_recorded_primary_is(
    scores: dict[str, float | None], state: str, score: float | None
) -> None:
    health = service_health(DB, scores, {"pg1"})

    assert health.state is ServiceState(state)
    assert health.score == (None if score is None else pytest.approx(score))
