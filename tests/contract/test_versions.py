"""The contract of versions of what services serve from: on all three stores."""

from __future__ import annotations

import pytest

from ha_tasks.errors import RevisionConflict, StaleFence
from ha_tasks.model.run import Phase
from ha_tasks.model.versions import Judgement, Version
from ha_tasks.ports.repositories import Warrant
from tests.contract.conftest import AnyStore
from tests.contract.test_repositories_concurrency import all_at_once, refusals
from tests.plans import NOW, at, on_scope

ONE, TWO = {"conf": "1" * 64}, {"conf": "2" * 64}


def record(store: AnyStore, files: dict[str, str], service: str = "web") -> Version:
    return store.versions.record(service, files, actor="ann", reason="tighter", now=NOW)


def test_a_service_without_versions_has_none(store: AnyStore):
    assert store.versions.of("web") == ()
    with pytest.raises(KeyError):
        store.versions.get("web", 1)
    with pytest.raises(KeyError):
        store.versions.judge("web", 1, Judgement.GOOD, "", NOW, actor="ann")


def test_versions_are_numbered_in_each_service_and_kept_as_they_were_recorded(store: AnyStore):
    first, other = record(store, ONE), record(store, ONE, "shop")

    second = store.versions.record("web", TWO, actor="bob", reason="", now=at(1))

    assert store.versions.of("web") == (second, first)
    assert store.versions.get("web", 1) == first
    assert store.versions.of("shop") == (other,)
    assert (first.no, first.files, first.actor, first.recorded_at) == (1, ONE, "ann", NOW)
    assert (second.no, second.judgement, second.judged_at) == (2, Judgement.RECORDED, None)


def test_the_same_items_as_the_newest_are_that_version(store: AnyStore):
    first = record(store, ONE)

    assert store.versions.record("web", ONE, actor="bob", reason="again", now=at(1)) == first
    record(store, TWO)
    assert record(store, ONE).no == 3


def test_of_many_that_record_at_once_each_number_is_given_once(store: AnyStore):
    answers = all_at_once(lambda n: record(store, {"conf": f"{n:064}"}))

    made = [answer for answer in answers if isinstance(answer, Version)]
    assert refusals(answers) <= {RevisionConflict}
    assert sorted(v.no for v in made) == list(range(1, len(made) + 1))
    assert {v.no: v.files for v in store.versions.of("web")} == {v.no: v.files for v in made}


def test_the_last_word_about_a_version_counts_and_is_in_the_audit_chain(store: AnyStore):
    record(store, ONE)

    good = store.versions.judge("web", 1, Judgement.GOOD, "serves", at(1), actor="w1")
    again = store.versions.judge("web", 1, Judgement.GOOD, "serves", at(2), actor="w1")
    anew = store.versions.judge("web", 1, Judgement.GOOD, "serves again", at(2), actor="w1")
    bad = store.versions.judge("web", 1, Judgement.BAD, "502", at(3), actor="w2")

    assert again == good
    assert (anew.judged_at, anew.why) == (at(2), "serves again")
    assert (good.judgement, good.judged_at, good.why) == (Judgement.GOOD, at(1), "serves")
    assert store.versions.get("web", 1) == bad
    recorded, *judged = store.audit.after(0, 10)
    assert (recorded.actor, recorded.verb, recorded.object) == (
        "ann",
        "version.recorded",
        "version 1 of web",
    )
    assert recorded.after == {"service": "web", "files": ONE, "reason": "tighter"}
    assert [(e.actor, e.before, e.after) for e in judged] == [
        ("w1", {"judgement": "recorded"}, {"judgement": "good", "why": "serves"}),
        ("w1", {"judgement": "good"}, {"judgement": "good", "why": "serves again"}),
        ("w2", {"judgement": "good"}, {"judgement": "bad", "why": "502"}),
    ]


def test_an_executor_that_was_overtaken_judges_nothing(store: AnyStore):
    record(store, ONE)
    run, _ = store.journal.create(on_scope("web", key="k"), NOW)
    claimed = store.journal.claim(run.id, 1, Phase.DO, owner="w1", now=NOW, lease_s=3)
    assert claimed is not None
    holds = Warrant(run=run.id, fence=claimed.fence)
    late = Warrant(run=run.id, fence=claimed.fence - 1)

    with pytest.raises(StaleFence):
        store.versions.judge("web", 1, Judgement.BAD, "late", at(1), actor="w1", under=late)

    assert store.versions.get("web", 1).judgement is Judgement.RECORDED
    judged = store.versions.judge("web", 1, Judgement.GOOD, "", at(1), actor="w1", under=holds)
    assert judged.judgement is Judgement.GOOD
