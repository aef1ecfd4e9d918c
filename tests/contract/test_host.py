"""The contract of ports/host.py, on agents in memory and on real agents of real PostgreSQL nodes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.errors import AgentRefused, AgentUnreachable, PassingFailure, StaleAuthority
from ha_tasks.model.self_fence import Standing
from ha_tasks.ports.host import Authority, Postmaster
from tests.fakes.host import FakeHostAgents
from tests.integration.agent_nodes import nodes, unit_agent

AnyAgents = FakeHostAgents | HostAgents
NAMES = ("pg1", "pg2")


@dataclass
class Pair:
    """A primary and its standby, whichever of the two nodes that is by now."""

    agents: AnyAgents
    primary: str = ""
    standby: str = ""
    epoch: int = 1

    def by(self) -> Authority:
        return Authority(epoch=self.epoch, fence=1)

    def settle(self) -> Pair:
        """A new epoch in which the newest primary is followed by the other node, and waits for nobody."""
        self.epoch += 1
        states = {name: self.agents.status(name, timeout_s=2.0) for name in NAMES}
        runs_as_primary = {n: s for n, s in states.items() if s.in_recovery is False}
        known = runs_as_primary or {n: s for n, s in states.items() if s.timeline and not s.upstream}
        self.primary = max(known, key=lambda name: known[name].timeline or 0)
        self.standby = next(name for name in NAMES if name != self.primary)
        self.agents.start_primary(self.primary, "", self.by())
        self.agents.set_sync(self.primary, "", self.by())
        if not follows(self, states[self.standby].upstream):
            job = f"settle-{self.epoch}"
            self.agents.rejoin(self.standby, self.primary, self.by(), job, timeout_s=60)
        return self


def follows(pair: Pair, upstream: str | None) -> bool:
    status = pair.agents.status(pair.standby, timeout_s=2.0)
    return status.in_recovery is True and status.promotion_begun is None and upstream == pair.primary


@pytest.fixture(scope="module")
def real_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with nodes(tmp_path_factory.mktemp("nodes"), *NAMES) as made:
        yield Pair(made.agents)


@pytest.fixture(params=["fake", "real"])
def pair(request: pytest.FixtureRequest) -> Pair:
    if request.param == "fake":
        agents = FakeHostAgents(primary="pg1", others=["pg2"])
        agents.start_primary("pg1", "", Authority(epoch=1, fence=1))
        return Pair(agents).settle()
    made: Pair = request.getfixturevalue("real_pair")
    return made.settle()


@pytest.fixture(params=["fake", "real"])
def unit_agents(request: pytest.FixtureRequest, tmp_path: pytest.TempPathFactory) -> Iterator[AnyAgents]:
    if request.param == "fake":
        yield FakeHostAgents(primary="pg1", units=["web1"])
    else:
        with unit_agent(tmp_path, host="app", unit="web1") as made:
            yield made


def test_a_status_says_role_upstream_and_position(pair):
    primary = pair.agents.status(pair.primary)
    standby = pair.agents.status(pair.standby)

    assert (primary.postmaster, primary.in_recovery, primary.upstream) == (Postmaster.RUNNING, False, None)
    assert (standby.postmaster, standby.in_recovery, standby.upstream) == (
        Postmaster.RUNNING,
        True,
        pair.primary,
    )
    assert primary.epoch == pair.epoch
    assert primary.timeline is not None
    assert primary.lsn is not None


@pytest.mark.parametrize(("epoch", "fence"), [(-1, 0), (-1, 99), (0, -1)])
def test_a_lower_authority_is_refused_and_changes_nothing(pair, epoch, fence):
    lower = Authority(epoch=pair.epoch + epoch, fence=1 + fence)
    pair.agents.follow(pair.standby, pair.primary, pair.by())
    before = pair.agents.status(pair.standby)

    with pytest.raises(StaleAuthority):
        pair.agents.revoke(pair.standby, lower)
    with pytest.raises(StaleAuthority):
        pair.agents.fence(pair.standby, lower)
    with pytest.raises(StaleAuthority):
        pair.agents.rejoin(pair.standby, pair.primary, lower, "late")

    after = pair.agents.status(pair.standby)
    moving = {"lsn": None, "receiving": None, "clock": None}
    assert replace(after, **moving) == replace(before, **moving)


def test_a_revoked_standby_follows_nobody_until_it_is_told_to(pair):
    first = pair.agents.revoke(pair.standby, pair.by())
    again = pair.agents.revoke(pair.standby, pair.by())
    revoked = pair.agents.status(pair.standby)
    pair.agents.follow(pair.standby, pair.primary, pair.by())
    pair.agents.follow(pair.standby, pair.primary, pair.by())

    assert first == again
    assert first.node == pair.standby
    assert first.lsn > 0
    assert (revoked.upstream, revoked.receiving, revoked.in_recovery) == (None, False, True)
    assert pair.agents.status(pair.standby).upstream == pair.primary


def test_a_stopped_standby_cannot_confirm_a_revocation(pair):
    pair.agents.fence(pair.standby, pair.by())

    with pytest.raises(AgentRefused):
        pair.agents.revoke(pair.standby, pair.by())

    assert pair.agents.status(pair.standby).upstream is None


def test_a_primary_takes_no_command_of_a_standby(pair):
    for command in (
        lambda: pair.agents.revoke(pair.primary, pair.by()),
        lambda: pair.agents.follow(pair.primary, pair.standby, pair.by()),
        lambda: pair.agents.start_standby(pair.primary, pair.standby, pair.by()),
    ):
        with pytest.raises(AgentRefused):
            command()


def test_a_standby_takes_no_command_of_a_primary(pair):
    for command in (
        lambda: pair.agents.set_sync(pair.standby, f"ANY 1 ({pair.primary})", pair.by()),
        lambda: pair.agents.start_primary(pair.standby, "", pair.by()),
    ):
        with pytest.raises(AgentRefused):
            command()


def test_nobody_follows_itself_or_a_stranger(pair):
    for upstream in (pair.standby, "pg9"):
        with pytest.raises(AgentRefused):
            pair.agents.follow(pair.standby, upstream, pair.by())


def test_a_fenced_primary_has_exited_and_can_be_started_again(pair):
    pair.agents.fence(pair.primary, pair.by())
    pair.agents.fence(pair.primary, pair.by())
    fenced = pair.agents.status(pair.primary)
    pair.agents.start_primary(pair.primary, "", pair.by())
    pair.agents.start_primary(pair.primary, "", pair.by())

    assert (fenced.postmaster, fenced.in_recovery) == (Postmaster.EXITED, None)
    assert pair.agents.status(pair.primary).in_recovery is False


def test_the_end_of_a_postmaster_is_told_at_once_and_its_life_after_the_time_that_was_asked_for(pair):
    began = time.monotonic()
    alive = pair.agents.await_exit(pair.primary, within_s=1)
    waited_s = time.monotonic() - began
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(pair.agents.await_exit, pair.primary, within_s=9)
        began = time.monotonic()
        pair.agents.fence(pair.primary, pair.by())
        told = asked.result()
    gone_s = time.monotonic() - began
    again = pair.agents.await_exit(pair.primary, within_s=9)

    assert (alive, told, again) == (Postmaster.RUNNING, Postmaster.EXITED, Postmaster.EXITED)
    assert waited_s > 0.9
    assert gone_s < 5


def test_a_promoted_standby_stays_marked_until_it_has_rejoined(pair):
    before = pair.agents.revoke(pair.standby, pair.by())
    pair.agents.fence(pair.primary, pair.by())
    timeline = pair.agents.promote(pair.standby, "", pair.by())
    promoted = pair.agents.status(pair.standby)

    assert timeline > before.timeline
    assert pair.agents.promote(pair.standby, "", pair.by()) == timeline
    assert (promoted.promotion_begun, promoted.in_recovery) == (pair.epoch, False)
    assert pair.agents.revoke(pair.standby, pair.by()).timeline == timeline
    with pytest.raises(AgentRefused):
        pair.agents.follow(pair.standby, pair.primary, pair.by())


def test_a_status_says_where_older_timelines_were_left_and_which_program_is_on_the_disk(pair):
    left_at = pair.agents.revoke(pair.standby, pair.by()).lsn
    timeline = pair.agents.promote(pair.standby, "", pair.by())
    promoted = pair.agents.status(pair.standby, timeout_s=2.0)

    assert promoted.timeline == timeline
    assert promoted.history is not None
    assert promoted.history[-1] == (timeline - 1, left_at)
    assert [older for older, _ in promoted.history] == sorted({older for older, _ in promoted.history})
    assert promoted.binary.split(".")[0].isdigit()


def test_a_rejoin_is_done_once_per_job(pair):
    first = pair.agents.rejoin(pair.standby, pair.primary, pair.by(), f"once-{pair.epoch}", timeout_s=60)
    again = pair.agents.rejoin(pair.standby, pair.primary, pair.by(), f"once-{pair.epoch}", timeout_s=60)

    assert first == again == {"method": "start", "kept": ""}
    assert pair.agents.status(pair.standby).job["id"] == f"once-{pair.epoch}"
    assert follows(pair, pair.primary)


def test_an_agent_that_is_not_there_is_unreachable(pair):
    with pytest.raises(AgentUnreachable):
        pair.agents.status("pg9")


def test_a_unit_is_started_once_per_key(unit_agents):
    before = unit_agents.unit_status("app", "web1")
    fence = before["fence"]
    answers = [unit_agents.restart_unit("app", "web1", key, fence=fence) for key in ("a", "a", "b", "a", "b")]
    after = unit_agents.unit_status("app", "web1")

    assert [a["pid"] == b["pid"] for a, b in itertools.pairwise(answers)] == [True, False, False, False]
    assert after["starts"] - before["starts"] == 2
    assert (after["running"], after["pid"]) == (True, answers[-1]["pid"])


def test_an_unknown_unit_is_refused(unit_agents):
    with pytest.raises(AgentRefused):
        unit_agents.restart_unit("app", "web9", "a", fence=1)


def test_a_unit_is_not_restarted_under_a_fence_that_is_lower_than_one_it_has_seen(unit_agents):
    fence = unit_agents.unit_status("app", "web1")["fence"] + 7
    unit_agents.restart_unit("app", "web1", "of the later claim", fence=fence)
    before = unit_agents.unit_status("app", "web1")

    for key in ("of the earlier claim", "of the later claim"):
        with pytest.raises(StaleAuthority):
            unit_agents.restart_unit("app", "web1", key, fence=fence - 1)
    assert unit_agents.unit_status("app", "web1") == before
    assert before["fence"] == fence


def test_a_stopped_primary_leads_its_standbys_to_its_end_and_follows_its_successor(pair):
    before = pair.agents.status(pair.primary, timeout_s=2.0)
    end = pair.agents.stop(pair.primary, pair.by(), timeout_s=20)
    again = pair.agents.stop(pair.primary, pair.by(), timeout_s=20)
    stopped = pair.agents.status(pair.primary, timeout_s=2.0)
    received = pair.agents.revoke(pair.standby, pair.by(), timeout_s=10)
    pair.agents.promote(pair.standby, "", pair.by())
    pair.agents.demote(pair.primary, pair.standby, pair.by(), timeout_s=30)
    pair.agents.demote(pair.primary, pair.standby, pair.by(), timeout_s=30)
    old = pair.agents.status(pair.primary, timeout_s=2.0)

    assert end == again
    assert (end.timeline, end.lsn >= before.lsn) == (before.timeline, True)
    assert stopped.postmaster is Postmaster.EXITED
    assert (received.timeline, received.lsn > end.lsn) == (end.timeline, True)
    assert (old.in_recovery, old.upstream, old.promotion_begun) == (True, pair.standby, None)


def test_a_stopped_primary_can_be_started_again_as_what_it_was(pair):
    pair.agents.stop(pair.primary, pair.by(), timeout_s=20)
    pair.agents.start_primary(pair.primary, "", pair.by())

    assert pair.agents.status(pair.primary, timeout_s=2.0).in_recovery is False


def test_a_primary_that_runs_is_not_demoted_and_nobody_stands_behind_a_standby(pair):
    with pytest.raises(AgentRefused):
        pair.agents.demote(pair.primary, pair.standby, pair.by())
    pair.agents.stop(pair.primary, pair.by(), timeout_s=20)
    with pytest.raises((PassingFailure, AgentRefused)):
        pair.agents.demote(pair.primary, pair.standby, pair.by())

    pair.agents.start_primary(pair.primary, "", pair.by())
    assert pair.agents.status(pair.primary, timeout_s=2.0).in_recovery is False


def test_a_standby_is_restarted_once_per_key_and_a_primary_is_not(pair):
    pair.agents.restart_standby(pair.standby, "k-1", pair.by(), timeout_s=30)
    pair.agents.restart_standby(pair.standby, "k-1", pair.by(), timeout_s=30)
    status = pair.agents.status(pair.standby, timeout_s=2.0)
    with pytest.raises(AgentRefused):
        pair.agents.restart_standby(pair.primary, "k-2", pair.by(), timeout_s=5)
    with pytest.raises(AgentRefused):
        pair.agents.stop(pair.standby, pair.by(), timeout_s=5)

    assert (status.postmaster, status.in_recovery) == (Postmaster.RUNNING, True)
    assert status.upstream == pair.primary


def test_slots_of_peers_and_slots_that_are_not_named_as_ours_are_not_dropped(pair):
    for slot in (f"ha_{pair.standby}", f"ha_{pair.primary}", "subscription"):
        with pytest.raises(AgentRefused):
            pair.agents.drop_slot(pair.primary, slot, pair.by())
    pair.agents.drop_slot(pair.primary, "ha_gone", pair.by())

    assert pair.agents.status(pair.standby, timeout_s=2.0).upstream == pair.primary


def test_what_the_store_says_is_heard_and_commands_nothing(pair):
    before = pair.agents.status(pair.primary)
    pair.agents.tell(pair.primary, Standing(epoch=pair.epoch, primary=pair.primary, steady=True))
    after = pair.agents.status(pair.primary)

    assert after.store_heard_s is not None
    assert after.store_heard_s < 5.0
    assert (after.epoch, after.fence) == (before.epoch, before.fence)
    assert after.postmaster is Postmaster.RUNNING


def test_a_status_tells_the_clock_and_that_new_sessions_are_had(pair):
    status = pair.agents.status(pair.primary, timeout_s=2.0)

    assert abs(status.clock - time.time()) < 5.0
    assert (status.stopped, status.unanswered_s, status.self_fenced) == ("", 0.0, "")
