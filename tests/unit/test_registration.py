"""Instances that register themselves: who serves, what is refused, what Prometheus reads."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.cli.root import run
from ha_tasks.model.platform import Role
from ha_tasks.model.registration import NewRegistration, Registration, faults, forgotten, is_last, serving
from tests.plans import NOW, at
from tests.unit.inventory_files import write_inventory


def registration(name: str, age_s: float = 0, ttl_s: float = 10, service: str = "web") -> Registration:
    since = NOW - timedelta(seconds=age_s)
    return Registration(
        service=service,
        name=name,
        address="10.0.0.9:80",
        role=Role.ACTIVE,
        metadata={},
        lease=1,
        ttl_s=ttl_s,
        registered_at=since,
        renewed_at=since,
    )


REGISTRATIONS = st.lists(
    st.builds(
        registration,
        name=st.sampled_from("abcd"),
        age_s=st.floats(0, 3e5),
        ttl_s=st.floats(1, 3e5),
        service=st.sampled_from(["web", "api"]),
    ),
    unique_by=lambda r: (r.service, r.name),
)


@given(REGISTRATIONS)
def test_a_service_that_has_registrations_always_has_somebody(known: list[Registration]):
    serves = serving(known, NOW)
    forgets = forgotten(known, NOW)

    assert {r.service for r in serves} == {r.service for r in known}
    assert all(r in serves for r in known if r.lives(NOW))
    assert not set(map(id, forgets)) & set(map(id, serves))
    for service in {r.service for r in known}:
        living = [r for r in known if r.service == service and r.lives(NOW)]
        stay = [r for r in living if is_last(r, known, NOW)]
        assert len(stay) == (1 if len(living) == 1 else 0)


def test_a_lease_ends_at_its_moment_and_not_before():
    made = registration("a")

    assert made.lives(at(9.99))
    assert not made.lives(at(10))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (NewRegistration(service="web", name="a b", address="h:1", ttl_s=5), "is no name"),
        (NewRegistration(service="web", name="a;quit", address="h:1", ttl_s=5), "is no name"),
        (NewRegistration(service="web", name="a", address="h", ttl_s=5), "is no host:port"),
        (NewRegistration(service="web", name="a", address="h:99999", ttl_s=5), "is no host:port"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=0), "a lease lasts"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=float("nan")), "a lease lasts"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=5, role=Role.NODE), "registers as"),
        (NewRegistration(service="web", name="a", address="h:1", ttl_s=5, metadata={"a-b": ""}), "is no key"),
    ],
)
def test_what_cannot_be_is_said(new: NewRegistration, said: str):
    assert [said in fault for fault in faults(new)] == [True]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an inventory and a migrated store."""
    path = write_inventory(tmp_path / "home")
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    return path.parent


def test_an_instance_registers_renews_and_is_told_to_prometheus(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    file = home / "targets.json"
    capsys.readouterr()
    assert run(["registry", "register", "web", "web9", "10.0.0.9:80", "--meta", "zone=north", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["registrations"][0]
    assert run(["registry", "renew", "web", "web9", str(made["lease"])]) == 0
    assert run(["registry", "file-sd", "--to", str(file)]) == 0
    groups = {group["labels"]["name"]: group for group in json.loads(file.read_text())}

    assert groups["web9"]["targets"] == ["10.0.0.9:80"]
    assert groups["web9"]["labels"] == {
        "service": "web",
        "name": "web9",
        "role": "active",
        "meta_zone": "north",
    }
    assert groups["web1"]["labels"]["service"] == "web"
    assert [path.name for path in home.glob(".targets*")] == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["register", "wbe", "a", "h:1"], 2, "the inventory has no service wbe"),
        (["register", "web", "web1", "h:1"], 2, "is an instance of the inventory"),
        (["register", "web", "a", "h:1", "--meta", "zone"], 2, "is no KEY=VALUE"),
        (["renew", "web", "ghost", "1"], 2, "register it again"),
        (["renew", "web", "web9", "99"], 3, "was registered anew"),
        (["remove", "web", "ghost"], 2, "is not registered"),
        (["remove", "web", "web9"], 3, "is the last registered instance of web"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_words(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
):
    assert run(["registry", "register", "web", "web9", "10.0.0.9:80"]) == 0

    assert run(["registry", *arguments]) == status
    assert said in capsys.readouterr().err
