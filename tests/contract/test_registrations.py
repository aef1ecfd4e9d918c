"""The contract of registrations: on all three stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ha_tasks.errors import Refused, StaleFence
from ha_tasks.model.platform import Role
from ha_tasks.model.registration import FORGOTTEN_AFTER, NewRegistration
from tests.contract.conftest import AnyStore
from tests.plans import NOW, at


def new(name: str, service: str = "web", ttl_s: float = 10.0) -> NewRegistration:
    return NewRegistration(service=service, name=name, address="10.0.0.9:80", ttl_s=ttl_s)


def test_a_registration_comes_back_as_it_was_made(store: AnyStore):
    said = NewRegistration(
        service="web",
        name="a",
        address="[::1]:80",
        ttl_s=2.5,
        role=Role.SPARE,
        metadata={"zone": "north \N{SNOWMAN}"},
    )

    made = store.registrations.register(said, NOW)

    assert store.registrations.all() == (made,)
    assert (made.address, made.role, made.metadata) == ("[::1]:80", Role.SPARE, said.metadata)
    assert (made.registered_at, made.renewed_at, made.expires_at) == (NOW, NOW, at(2.5))


def test_a_renewal_prolongs_the_lease_and_an_older_one_that_comes_late_changes_nothing(store: AnyStore):
    made = store.registrations.register(new("a"), NOW)

    assert store.registrations.renew("web", "a", made.lease, at(8)).expires_at == at(18)
    assert store.registrations.renew("web", "a", made.lease, at(5)).expires_at == at(18)
    assert store.registrations.all()[0].registered_at == NOW


def test_who_registers_the_same_name_later_takes_it_and_the_former_can_change_nothing(store: AnyStore):
    former = store.registrations.register(new("a"), NOW)
    store.registrations.register(new("b"), NOW)

    later = store.registrations.register(new("a"), at(1))

    assert later.lease > former.lease
    with pytest.raises(StaleFence):
        store.registrations.renew("web", "a", former.lease, at(2))
    with pytest.raises(StaleFence):
        store.registrations.remove("web", "a", former.lease, at(2))
    assert store.registrations.all()[0] == later


def test_what_is_not_registered_cannot_be_renewed_and_need_not_be_removed(store: AnyStore):
    with pytest.raises(KeyError):
        store.registrations.renew("web", "a", 1, NOW)
    assert store.registrations.remove("web", "a", None, NOW) is False


def test_the_last_instance_that_lives_is_never_removed(store: AnyStore):
    store.registrations.register(new("a"), NOW)
    store.registrations.register(new("b", ttl_s=1), NOW)
    store.registrations.register(new("c", service="api"), NOW)

    with pytest.raises(Refused):
        store.registrations.remove("web", "a", None, at(2))
    assert store.registrations.remove("web", "b", None, at(2)) is True
    assert store.registrations.remove("web", "b", None, at(3)) is False
    assert [(r.name, r.left) for r in store.registrations.all()] == [("c", False), ("a", False), ("b", True)]


def test_of_two_that_leave_at_once_one_stays(store: AnyStore):
    for name in ("a", "b"):
        store.registrations.register(new(name), NOW)

    def leave(name: str) -> bool:
        try:
            return store.registrations.remove("web", name, None, at(1))
        except Refused:
            return False

    with ThreadPoolExecutor(2) as pool:
        left = list(pool.map(leave, ("a", "b")))

    assert sorted(left) == [False, True]
    assert sum(not r.left for r in store.registrations.all()) == 1


def test_what_expired_long_ago_is_forgotten_at_the_next_registration_unless_nobody_lives(store: AnyStore):
    store.registrations.register(new("a"), NOW)
    store.registrations.register(new("b", service="api"), NOW)
    much_later = NOW + FORGOTTEN_AFTER + timedelta(seconds=11)

    store.registrations.register(new("c"), much_later)

    assert [r.name for r in store.registrations.all()] == ["b", "c"]
