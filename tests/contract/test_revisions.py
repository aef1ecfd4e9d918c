"""The contract of applied revisions: on all three stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ha_tasks.errors import RevisionConflict
from ha_tasks.model.revision import Change, Revision, sha256_of
from tests.contract.conftest import AnyStore
from tests.contract.test_repositories_concurrency import all_at_once, refusals
from tests.plans import NOW, at

ONE: Mapping[str, Any] = {"schema": 1, "services": {"web": {"rto_s": 30.0}}}
TWO: Mapping[str, Any] = {"schema": 1, "services": {"web": {"rto_s": 10.5}}}
CHANGE = Change(key="services.web.rto_s", before=30.0, after=10.5)


def apply(store: AnyStore, body: Mapping[str, Any], onto: int | None) -> Revision:
    """By ann, for a reason."""
    return store.revisions.apply(body, [CHANGE], actor="ann", reason="tighter", now=NOW, onto=onto)


def test_a_new_store_has_no_revision(store: AnyStore):
    assert store.revisions.newest() is None
    assert store.revisions.place(sha256_of(ONE)) == (None, None)
    with pytest.raises(KeyError):
        store.revisions.get(1)


def test_revisions_are_numbered_and_kept_as_they_were_applied(store: AnyStore):
    first = apply(store, ONE, None)

    second = store.revisions.apply(TWO, [CHANGE], actor="bob", reason="", now=at(1), onto=1)

    assert store.revisions.newest() == store.revisions.get(2) == second
    assert store.revisions.get(1) == first
    assert (first.no, first.body, first.sha256) == (1, ONE, sha256_of(ONE))
    assert (second.changes, second.actor, second.applied_at) == ((CHANGE,), "bob", at(1))


def test_the_same_content_again_is_the_same_revision(store: AnyStore):
    first = apply(store, ONE, None)

    assert apply(store, dict(reversed(ONE.items())), None) == first
    assert apply(store, ONE, 1) == first


def test_a_process_finds_its_place_by_the_content_that_it_has(store: AnyStore):
    apply(store, ONE, None)
    apply(store, TWO, 1)
    assert store.revisions.place(sha256_of(ONE)) == (1, 2)

    apply(store, ONE, 2)

    assert store.revisions.place(sha256_of(ONE)) == (3, 3)
    assert store.revisions.place(sha256_of(TWO)) == (2, 3)
    assert store.revisions.place("of nothing") == (None, 3)


@pytest.mark.parametrize("onto", [None, 7])
def test_what_was_looked_at_against_another_revision_is_refused(store: AnyStore, onto: int | None):
    apply(store, ONE, None)

    with pytest.raises(RevisionConflict):
        apply(store, TWO, onto)

    assert store.revisions.place(sha256_of(TWO)) == (None, 1)


def test_of_many_that_apply_at_once_one_wins(store: AnyStore):
    apply(store, ONE, None)

    answers = all_at_once(lambda n: apply(store, {**TWO, "by": n}, 1))

    assert sum(isinstance(answer, Revision) for answer in answers) == 1
    assert refusals(answers) == {RevisionConflict}
    newest = store.revisions.newest()
    assert newest is not None
    assert newest.no == 2


def test_an_applied_revision_is_in_the_audit_chain(store: AnyStore):
    apply(store, ONE, None)
    apply(store, TWO, 1)
    apply(store, TWO, 2)

    _, entry = store.audit.after(0, 10)
    assert (entry.actor, entry.verb, entry.object) == ("ann", "revision.applied", "revision 2")
    assert entry.before == {"no": 1, "sha256": sha256_of(ONE)}
    assert entry.after == {
        "no": 2,
        "sha256": sha256_of(TWO),
        "changes": ["services.web.rto_s"],
        "reason": "tighter",
    }
