"""Who is restarted by a rolling restart, in which order, and when it must not begin."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.rolling import NodeState, Pending, rolling


def cluster(primary: str = "pg1", members: tuple[str, ...] = ("pg2", "pg3")) -> Cluster:
    return Cluster(
        name="db", epoch=1, primary=primary, state=ClusterState.STEADY, sets=(sync_set_of(members),)
    )


def node(*settings: str, runs: str = "15.13", on_disk: str = "15.13") -> NodeState:
    return NodeState(pending=Pending(version=runs, settings=settings), on_disk=on_disk)


def test_standbys_come_first_and_the_primary_by_a_switchover():
    waits = dict.fromkeys(("pg1", "pg2", "pg3"), node("shared_buffers"))
    found = rolling(cluster(), waits)

    assert (found.standbys, found.switch, found.left) == (("pg2", "pg3"), True, 3)
    assert found.why["pg1"] == ("shared_buffers waits for a restart",)
    assert found.trouble == ()


def test_whoever_is_in_no_commits_way_comes_before_all_others():
    waits = dict.fromkeys(("pg1", "pg2", "pg3"), node(on_disk="15.14"))
    found = rolling(cluster(members=("pg2",)), waits)

    assert found.standbys == ("pg3", "pg2")
    assert found.why["pg3"] == ("runs 15.13, 15.14 is on its disk",)


def test_nobody_is_restarted_without_need():
    found = rolling(cluster(), {"pg1": node(), "pg2": node(), "pg3": node(on_disk="")})

    assert (found.standbys, found.switch, found.left) == ((), False, 0)


def test_by_order_everybody_is_restarted_once():
    nodes = {"pg1": node(), "pg2": node(), "pg3": node()}

    assert rolling(cluster(), nodes, everyone=True).left == 3
    assert rolling(cluster(), nodes, everyone=True, done=("pg2",)).standbys == ("pg3",)
    assert rolling(cluster("pg2"), nodes, everyone=True, done=("pg1", "pg2", "pg3")).left == 0


def test_another_major_version_and_a_silent_server_are_trouble():
    silent = NodeState(pending=None, on_disk="15.13")
    found = rolling(cluster(), {"pg1": node(), "pg2": node(on_disk="16.4"), "pg3": silent})

    assert found.trouble == (
        "pg2 runs 15.13, and 16.4 on its disk is another major version; that is pg_upgrade's business",
        "pg3 does not answer; bring it back first",
    )


@given(st.sets(st.sampled_from(["pg1", "pg2", "pg3"])), st.sampled_from(["pg1", "pg2", "pg3"]))
def test_whatever_waits_it_ends_after_as_many_steps_as_there_are_nodes_that_wait(waiting, primary):
    nodes = {n: node("wal_level") if n in waiting else node() for n in ("pg1", "pg2", "pg3")}
    steps = 0
    while (found := rolling(cluster(primary), nodes)).left:
        done = found.standbys[0] if found.standbys else primary
        nodes[done] = node()
        if not found.standbys:
            primary = next(n for n in nodes if n != primary)
        steps += 1
        assert steps <= len(waiting)

    assert steps == len(waiting)
