"""Whom a cluster would rather have as its primary: only among standbys that have the same data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.model.cluster import Cluster, ClusterState, Revoked, sync_set_of
from ha_tasks.model.failover import choose_candidate
from ha_tasks.model.precedence import ranks
from ha_tasks.model.switchover import Standby, successor
from tests.unit.builders import database


def nodes(**keys):
    """The builders' database; each node with those keys of its own."""
    service = database()
    return replace(service, instances=tuple(replace(i, **keys.get(i.name, {})) for i in service.instances))


@pytest.mark.parametrize(
    ("keys", "primary", "order"),
    [
        ({}, "pg1", ("pg1", "pg2", "pg3")),
        ({"pg3": {"priority": 1}}, "pg1", ("pg3", "pg1", "pg2")),
        ({"pg2": {"priority": -1}}, "pg1", ("pg1", "pg3", "pg2")),
        ({"pg1": {"site": "b"}, "pg3": {"site": "b"}}, "pg1", ("pg1", "pg3", "pg2")),
        ({"pg1": {"site": "b"}, "pg3": {"site": "b"}, "pg2": {"priority": 1}}, "pg1", ("pg2", "pg1", "pg3")),
        ({"pg2": {"site": "b"}}, "pg1", ("pg1", "pg2", "pg3")),
        ({"pg2": {"site": "b"}}, "gone", ("pg1", "pg2", "pg3")),
        ({"pg1": {"synchronous": False, "priority": 9}}, "pg2", ("pg2", "pg3", "pg1")),
    ],
    ids=["name", "priority", "below 0", "site", "priority first", "no site", "unknown", "synchronous first"],
)
def test_the_order(keys, primary, order):
    assert ranks(nodes(**keys), primary) == order


wishes = st.fixed_dictionaries(
    {},
    optional={
        name: st.fixed_dictionaries(
            {},
            optional={
                "priority": st.integers(-1000, 1000),
                "site": st.sampled_from(["", "a", "b"]),
                "synchronous": st.booleans(),
            },
        )
        for name in ("pg1", "pg2", "pg3")
    },
)
positions = st.dictionaries(
    st.sampled_from(["pg1", "pg2", "pg3"]), st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1
)


@given(keys=wishes, primary=st.sampled_from(["pg1", "pg2", "pg3"]), at=positions)
def test_who_has_less_is_never_preferred_whatever_its_keys_say(keys, primary, at):
    order = ranks(nodes(**keys), primary)

    chosen = choose_candidate([Revoked(node=n, timeline=t, lsn=p) for n, (t, p) in at.items()], ranks=order)

    assert chosen is not None
    most = max(at.values())
    assert (chosen.timeline, chosen.lsn) == most
    assert chosen.node == min((n for n in at if at[n] == most), key=order.index)


@pytest.mark.parametrize(("lsn_of_pg2", "expected"), [(90, "pg3"), (91, "pg2")])
def test_the_proposed_successor_is_chosen_by_the_same_order(lsn_of_pg2, expected):
    def standby(lsn):
        return Standby(
            running=True,
            in_recovery=True,
            upstream="pg1",
            receiving=True,
            promotion_begun=None,
            timeline=1,
            lsn=lsn,
        )

    cluster = Cluster(
        name="db", epoch=1, primary="pg1", state=ClusterState.STEADY, sets=(sync_set_of(["pg2", "pg3"]),)
    )
    seen = {"pg2": standby(lsn_of_pg2), "pg3": standby(90)}

    assert successor(cluster, seen, ranks=ranks(nodes(pg3={"priority": 1}), "pg1")) == expected
