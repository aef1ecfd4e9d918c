"""The hint that a PostgreSQL, or its agent, is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ha_tasks.model.platform import ManagedBy
from ha_tasks.ports.host import Postmaster
from ha_tasks.workflows.exit_watch import ExitWatch
from tests.fakes.host import FakeHostAgents
from tests.unit.builders import database, platform, web


class Agents(FakeHostAgents):
    """Answers at once."""

    def await_exit(self, node, *, within_s=0):
        return super().await_exit(node, within_s=0)


@pytest.fixture
def agents():
    made = Agents(primary="pg1", others=["pg2", "pg3"])
    made.nodes["pg1"].postmaster = Postmaster.RUNNING
    return made


def end(agents):
    agents.nodes["pg1"].postmaster = Postmaster.EXITED


def lose_its_agent(agents):
    agents.silent.add("pg1")


@pytest.mark.parametrize("happens", [end, lose_its_agent])
def test_what_ran_and_is_gone_is_told_once(agents, happens):
    watch = ExitWatch(platform=platform(), agents=agents)
    before = watch.look("pg1")
    happens(agents)

    assert (before, watch.look("pg1"), watch.look("pg1")) == (False, True, False)


def test_what_never_ran_is_no_end(agents):
    lose_its_agent(agents)

    assert not ExitWatch(platform=platform(), agents=agents).look("pg1")


def test_what_runs_again_may_end_again(agents):
    watch = ExitWatch(platform=platform(), agents=agents)
    told = []
    for state in (Postmaster.RUNNING, Postmaster.EXITED) * 2:
        agents.nodes["pg1"].postmaster = state
        told.append(watch.look("pg1"))

    assert told == [False, True, False, True]


def test_only_databases_that_we_lead_are_asked(agents):
    theirs = replace(database(), managed_by=ManagedBy.PATRONI)

    ours = ExitWatch(platform=platform(web(), database()), agents=agents).nodes
    others = ExitWatch(platform=platform(theirs), agents=agents).nodes

    assert (ours, others) == (("pg1", "pg2", "pg3"), ())
