"""Revisions of the inventory: what differs, what that touches, who may act."""

from __future__ import annotations

from typing import Any

import pytest

from ha_tasks.model.cluster import Cluster, ClusterState, sync_set_of
from ha_tasks.model.consequences import Consequence, Known, consequences
from ha_tasks.model.incident import Incident, IncidentKind, IncidentState
from ha_tasks.model.revision import NOTHING_APPLIED, Change, difference, sha256_of, standing_of
from ha_tasks.model.run import Phase, Run, RunState
from tests.plans import NOW, plan_of

OLD: dict[str, Any] = {
    "schema": 1,
    "hosts": {"db1": {"agent": "http://a"}},
    "services": {
        "db": {
            "kind": "postgres",
            "rto_s": 30.0,
            "depends_on": ["cache"],
            "postgres": {"password": {"file": "secrets/db"}},
            "instances": [
                {"name": "pg1", "host": "db1", "address": "a:1"},
                {"name": "pg2", "host": "db2", "address": "b:1"},
            ],
        }
    },
}


def with_db(**changes: Any) -> dict[str, Any]:
    """OLD with other keys of its database."""
    return {**OLD, "services": {"db": {**OLD["services"]["db"], **changes}}}


PG1, PG2 = OLD["services"]["db"]["instances"]
PG3 = {"name": "pg3", "host": "db3", "address": "c:1"}

DIFFERENCES: dict[str, tuple[dict[str, Any], list[tuple[str, object, object]]]] = {
    "nothing": (OLD, []),
    "a setting": (with_db(rto_s=10.0), [("services.db.rto_s", 30.0, 10.0)]),
    "a list of words": (with_db(depends_on=[]), [("services.db.depends_on", ["cache"], [])]),
    "a reference to a secret": (
        with_db(postgres={"password": {"env": "PW"}}),
        [
            ("services.db.postgres.password.env", None, "PW"),
            ("services.db.postgres.password.file", "secrets/db", None),
        ],
    ),
    "the order of instances": (with_db(instances=[PG2, PG1]), []),
    "an instance more": (
        with_db(instances=[PG1, PG2, PG3]),
        [("services.db.instances.pg3", None, {"host": "db3", "address": "c:1"})],
    ),
    "an instance less": (
        with_db(instances=[PG1]),
        [("services.db.instances.pg2", {"host": "db2", "address": "b:1"}, None)],
    ),
    "an address": (
        with_db(instances=[PG1, {**PG2, "address": "b:2"}]),
        [("services.db.instances.pg2.address", "b:1", "b:2")],
    ),
    "a service more": (
        {**OLD, "services": {**OLD["services"], "web": {"kind": "http"}}},
        [("services.web", None, {"kind": "http"})],
    ),
    "a whole table of hosts less": (
        {"schema": 1, "services": OLD["services"]},
        [("hosts.db1", {"agent": "http://a"}, None)],
    ),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_the_difference_is_told_thing_by_thing(what: str):
    new, expected = DIFFERENCES[what]

    assert [(c.key, c.before, c.after) for c in difference(OLD, new)] == expected


def test_the_first_revision_names_every_thing():
    keys = [change.key for change in difference({}, OLD)]

    assert keys == ["hosts.db1", "schema", "services.db"]
    assert all(change.added and not change.removed for change in difference({}, OLD))


def test_the_hash_is_of_what_is_said_not_of_how():
    assert sha256_of({"b": 1, "a": [1, 2]}) == sha256_of({"a": [1, 2], "b": 1})
    assert sha256_of({"a": [1, 2]}) != sha256_of({"a": [2, 1]})


@pytest.mark.parametrize(
    ("own", "applied", "problem", "takes"),
    [
        (None, None, NOTHING_APPLIED, {None}),
        (None, 4, "the file that it has loaded was never applied, applied is 4", {None}),
        (3, 4, "this process has revision 3, applied is 4", {3}),
        (4, 4, None, {None, 3, 4}),
    ],
)
def test_who_has_not_the_applied_revision_only_goes_on_with_runs_of_its_own(
    own: int | None, applied: int | None, problem: str | None, takes: set[int | None]
):
    standing = standing_of(own, applied)

    assert standing.own == own
    assert (standing.problem or "").startswith(problem or "")
    assert (standing.problem is None) == (problem is None)
    assert {r for r in (None, 3, 4) if standing.may_take(r)} == takes


CLUSTER = Cluster(
    name="db", epoch=2, primary="pg1", state=ClusterState.STEADY, sets=(sync_set_of(["pg2", "pg3"]),)
)
INCIDENT = Incident(
    id=3,
    key="web/web1/instance_down",
    service="web",
    instance="web1",
    kind=IncidentKind.INSTANCE_DOWN,
    state=IncidentState.OPEN,
    severity="critical",
    summary="web1 does not answer",
    fault_at=NOW,
    detected_at=NOW,
)


def run_of(revision: int | None) -> Run:
    """A run that is under way."""
    return Run(
        id=7,
        incident=3,
        plan=plan_of(),
        state=RunState.RUNNING,
        phase=Phase.DO,
        position=1,
        fence=1,
        steps=(),
        mode="auto",
        requested_by="test",
        reason="",
        created_at=NOW,
        updated_at=NOW,
        revision=revision,
    )


KNOWN = Known(incidents=(INCIDENT,), clusters={"db": CLUSTER})
TOUCHES: dict[str, tuple[Change, list[tuple[str, str, bool]]]] = {
    "a check": (
        Change(key="services.web.check.interval_s", before=0.5, after=1.0),
        [("web", "observers probe it differently", False)],
    ),
    "an objective": (Change(key="services.web.rto_s", before=1, after=2), []),
    "a kind": (
        Change(key="services.web.kind", before="http", after="redis"),
        [("web", "it is another kind of service: take it out under this name", True)],
    ),
    "who manages it": (
        Change(key="services.db.managed_by", before="ha_tasks", after="patroni"),
        [("db", "it is only watched from now on", False)],
    ),
    "that we manage it": (
        Change(key="services.db.managed_by", before="patroni", after="ha_tasks"),
        [("db", "it is acted on from now on", False)],
    ),
    "a service more": (
        Change(key="services.api", before=None, after={"kind": "http"}),
        [("api", "it is watched, and recovered, from now on", False)],
    ),
    "a database more": (
        Change(key="services.db2", before=None, after={"kind": "postgres"}),
        [
            ("db2", "it is watched, and recovered, from now on", False),
            ("db2", "take its cluster into care: ha-tasks adopt db2", False),
        ],
    ),
    "a service less": (
        Change(key="services.web", before={"kind": "http"}, after=None),
        [
            ("web", "it is neither watched nor recovered any more", False),
            ("web", "I-3 stands open about it", False),
        ],
    ),
    "a database less, about which nothing is open": (
        Change(key="services.db", before={"kind": "postgres"}, after=None),
        [("db", "it is neither watched nor recovered any more", False)],
    ),
    "a node more": (
        Change(key="services.db.instances.pg4", before=None, after={"host": "db4"}),
        [("pg4", "it is watched from now on; as a standby it is brought in by the playbook", False)],
    ),
    "an instance more": (
        Change(key="services.web.instances.web4", before=None, after={"address": "a"}),
        [("web4", "it is watched from now on", False)],
    ),
    "the primary less": (
        Change(key="services.db.instances.pg1", before={"host": "db1"}, after=None),
        [
            ("pg1", "it is the primary of db", True),
            ("pg1", "it is neither watched nor used any more", False),
        ],
    ),
    "a member of the synchronous set less": (
        Change(key="services.db.instances.pg3", before={"host": "db3"}, after=None),
        [
            ("pg3", "the synchronous set of db names it (ANY 1 (pg2, pg3))", True),
            ("pg3", "it is neither watched nor used any more", False),
        ],
    ),
    "a node less that nobody waits for": (
        Change(key="services.db.instances.pg9", before={"host": "db9"}, after=None),
        [("pg9", "it is neither watched nor used any more", False)],
    ),
    "the address of a member": (
        Change(key="services.db.instances.pg2.address", before="b:1", after="b:2"),
        [("pg2", "it is looked for where the file now says", False)],
    ),
    "the host of a member": (
        Change(key="services.db.instances.pg2.host", before="db2", after="db7"),
        [
            ("pg2", "the synchronous set of db names it", True),
            ("pg2", "it is looked for where the file now says", False),
        ],
    ),
    "a member that no commit shall wait for": (
        Change(key="services.db.instances.pg2.sync", before=None, after=False),
        [("pg2", "it leaves the synchronous set; from then on only a person has it promoted", False)],
    ),
    "and one for which it shall again": (
        Change(key="services.db.instances.pg2.sync", before=False, after=None),
        [("pg2", "it comes into the synchronous set by the playbook", False)],
    ),
    "a preference": (
        Change(key="services.db.instances.pg2.priority", before=None, after=7),
        [("pg2", "of standbys with the same data another one may be promoted", False)],
    ),
    "a host": (
        Change(key="hosts.db1.agent", before="http://a", after="http://b"),
        [("db1", "its agent is asked where the file now says", False)],
    ),
    "a limit of a host": (
        Change(key="hosts.db1.limits.disk", before=0.9, after=0.8),
        [("db1", "the health of its machine is judged by other limits", False)],
    ),
    "what lies outside": (
        Change(key="external.pay.target", before="a:1", after="b:1"),
        [("pay", "it is looked at as the file now says", False)],
    ),
    "the store": (
        Change(key="store.url", before="a", after="b"),
        [("store", "[store] changes: every process must be restarted", False)],
    ),
    "the playbooks": (
        Change(key="playbooks.directories", before=[], after=["p"]),
        [("playbooks", "plans are made by other playbooks", False)],
    ),
    "a limit": (Change(key="policies.max_concurrent_runs", before=2, after=3), []),
}


@pytest.mark.parametrize("what", TOUCHES)
def test_what_a_change_touches_is_told_and_what_is_unsafe_is_refused(what: str):
    change, expected = TOUCHES[what]

    told = consequences([change], KNOWN)

    assert [(each.about, each.refused) for each in told] == [(about, no) for about, _, no in expected]
    for each, (_, text, _) in zip(told, expected, strict=True):
        assert each.text.startswith(text)


@pytest.mark.parametrize(("revision", "by"), [(3, "revision 3"), (None, "its own inventory")])
def test_runs_that_are_under_way_keep_their_revision(revision: int | None, by: str):
    known = Known(active=(run_of(revision),))
    change = Change(key="services.web.rto_s", before=1, after=2)

    assert consequences([change], known) == (
        Consequence(about="run 7", text=f"http-instance-down on web/web1 goes on under {by}"),
    )
    assert consequences([], known) == ()
