"""Drills on the running stack, each judged by what the servers themselves counted."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest

from tests.acceptance.stack import Stack

RTO_S = 10.0
"""What a lost primary may cost at most on this stack, on a noisy machine."""


def rolled_back(stack: Stack) -> float:
    """How many rollbacks the sidecar has counted. A scrape may be a second old, so it is let pass."""
    time.sleep(1.1)
    with urllib.request.urlopen(stack.state["endpoints"]["metrics"], timeout=5) as answer:  # noqa: S310 - http
        text = answer.read().decode()
    counted = re.findall(r"^ha_rollbacks_total\{.*\} ([0-9.e+]+)$", text, flags=re.MULTILINE)
    return sum(float(count) for count in counted)


def passed(report):
    assert report["verdict"] == "PASS", report["reasons"]
    assert report["schema"] == 1
    assert (report["writes"]["lost"], report["writes"]["stale"]) == (0, 0)
    return report


def test_a_crashed_web_instance_costs_not_one_get(stack: Stack) -> None:
    report = passed(stack.drill("crash-web"))

    assert report["writes"]["failed"] == 0
    assert report["writes"]["acked"] > 100
    assert [s["action"] for s in report["steps"]][-1] == "verify_service"


@pytest.mark.full
def test_a_bad_configuration_that_somebody_pushed_is_taken_back_within_seconds(stack: Stack) -> None:
    word = stack.result("versions", "web", "--record")["recorded"]
    stack.result("rollback", "web", "--to", word, "--yes")  # nothing is exchanged: it is proved to be good
    report = passed(stack.drill("bad-config"))

    assert report["steps"][0]["action"] == "apply_version"
    assert report["outage_s"] <= 5
    assert stack.result("versions", "web")["in_place"] == word


def test_a_crashed_postmaster_is_failed_over_without_a_lost_write(stack: Stack) -> None:
    report = passed(stack.drill("crash-primary"))

    assert report["outage_s"] <= RTO_S
    assert report["rpo"]["measured_rows"] == 0


def test_a_lost_node_is_failed_over_without_a_lost_write_and_comes_back(stack: Stack) -> None:
    report = passed(stack.drill("lose-primary"))

    assert report["outage_s"] <= RTO_S
    assert report["detected_s"] <= report["decided_s"] <= report["acted_s"] <= report["verified_s"]


@pytest.mark.full
def test_when_a_standby_cannot_be_revoked_nothing_is_promoted_and_all_is_as_before(stack: Stack) -> None:
    rollbacks = rolled_back(stack)
    report = passed(stack.drill("refused-promotion"))

    run = stack.result("run", str(report["run"]))
    undone = [s["action"] for s in report["steps"] if s["state"] == "undone"]
    incident = stack.result("incidents", str(report["incident"]))
    assert undone == ["open_epoch", "isolate_primary", "fence_primary", "revoke_standbys"]
    assert run["run"]["state"] == "rolled_back"
    assert incident["incident"]["state"] == "escalated"
    evidence = report["evidence"]
    assert evidence["before"] == evidence["after"]
    assert rolled_back(stack) - rollbacks == 1


@pytest.mark.full
@pytest.mark.parametrize(
    "scenario",
    [
        "freeze-primary",
        "freeze-database",
        "freeze-postmaster",
        "lag-standby",
        "query-on-standby",
        "store-down-during-failover",
        "broker-down-during-failover",
        "lose-standby",
        "lose-agent",
        "pause-agent",
    ],
)
def test_a_hindered_platform_loses_nothing_and_is_whole_again(stack: Stack, scenario: str) -> None:
    report = passed(stack.drill(scenario))

    assert report["left"] == []
    assert report["application"]["requests"] > 0


@pytest.mark.full
@pytest.mark.parametrize("scenario", ["dark-primary", "partition-primary"])
def test_a_primary_that_nobody_hears_is_failed_over_where_packets_can_be_dropped(
    stack: Stack, scenario: str
) -> None:
    report = stack.drill(scenario)

    if report["verdict"] == "INCONCLUSIVE":
        assert any("iptables" in reason or "root" in reason for reason in report["reasons"])
        pytest.skip(report["reasons"][0])
    passed(report)


@pytest.mark.full
def test_a_worker_killed_in_the_middle_of_a_failover_changes_nothing_about_its_end(stack: Stack) -> None:
    report = passed(stack.drill("lose-worker"))

    attempts = stack.result("run", str(report["run"]))["attempts"]
    assert [a["outcome"] for a in attempts].count("lost") == 1


@pytest.mark.parametrize(
    "step",
    [
        "restart_instance",
        "verify_service",
        # each boundary is also a trial of tests/crash
        *[pytest.param(s, marks=pytest.mark.full) for s in ("take_out", "spare_in", "put_back", "spare_out")],
    ],
)
@pytest.mark.parametrize("point", ["settled"])
def test_a_worker_killed_at_a_step_boundary_changes_nothing_about_the_end(
    stack: Stack, step: str, point: str
) -> None:
    """The worker dies after it has written the step down and before it could send the next one."""
    armed = stack.home / "crash-points" / f"do.{step}.{point}"
    armed.touch()

    report = passed(stack.drill("crash-web"))

    assert not armed.exists(), "the point was never reached"
    before, after = report["evidence"]["before"], report["evidence"]["after"]
    assert after["starts.web1"] - before["starts.web1"] == 1
    assert {s["state"] for s in report["steps"]} == {"done"}


def test_a_worker_killed_between_an_effect_and_its_record_does_not_apply_it_twice(stack: Stack) -> None:
    armed = stack.home / "crash-points" / "do.restart_instance.done"
    armed.touch()

    report = passed(stack.drill("crash-web"))

    assert not armed.exists(), "the point was never reached"
    before, after = report["evidence"]["before"], report["evidence"]["after"]
    assert after["starts.web1"] - before["starts.web1"] == 1


@pytest.mark.full
@pytest.mark.parametrize("point", ["claimed", "done", "settled"])
@pytest.mark.parametrize(
    "step",
    [
        "open_epoch",
        "isolate_primary",
        "fence_primary",
        "revoke_standbys",
        "choose_candidate",
        "repoint_survivors",
        "promote_candidate",
        "route_writes",
        "commit_primary",
        "verify_service",
    ],
)
def test_a_worker_killed_anywhere_in_a_failover_promotes_once_and_loses_nothing(
    stack: Stack, step: str, point: str
) -> None:
    """That the timeline has grown by exactly one is part of the drill's own verdict."""
    armed = stack.home / "crash-points" / f"do.{step}.{point}"
    armed.touch()

    passed(stack.drill("crash-primary"))

    assert not armed.exists(), "the point was never reached"
