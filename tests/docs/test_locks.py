"""The locks: complete, hashed, one set of versions, nothing of the machine that wrote them."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.docs import pages

both_locks = pytest.mark.parametrize("lock", ["demo", "dev"])


def read(lock: str) -> str:
    return (pages.ROOT / f"requirements/{lock}.lock").read_text()


def pins(lock: str) -> dict[str, str]:
    """Name -> everything that is said about it: version, marker, hashes."""
    entries = re.split(r"^(?=[a-z0-9])", read(lock), flags=re.MULTILINE)[1:]
    return {
        re.split(r"==|\[", e)[0]: re.sub(r"\s+", " ", re.sub(r"#.*", "", e).replace("\\", ""))
        for e in entries
    }


@both_locks
def test_every_package_is_pinned_with_a_hash(lock: str):
    pinned = pins(lock)

    assert len(pinned) > 40
    assert [name for name, entry in pinned.items() if not re.search(r"==\S+.*--hash=sha256:", entry)] == []


@both_locks
def test_a_lock_names_no_index_no_host_and_no_path(lock: str):
    traces = re.findall(r".*(?:://|--\w*index|--find-links|--trusted|(?<!\w)/\w).*", read(lock))

    assert traces == []


def test_an_environment_for_development_serves_the_demo_too():
    def versions(lock: str) -> dict[str, str]:
        # A package that the tools want everywhere bears no marker in dev.lock.
        return {name: re.sub(r" ; .*?(?= --hash)", "", entry) for name, entry in pins(lock).items()}

    assert versions("demo").items() <= versions("dev").items()


@pytest.mark.parametrize(
    ("lock", "extras"), [("demo", ["demo"]), ("dev", ["demo", "dev"])], ids=["demo", "dev"]
)
def test_whatever_the_project_asks_for_is_locked(lock: str, extras: list[str]):
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for e in extras for r in project["optional-dependencies"][e])]
    names = {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in wanted}

    assert names - pins(lock).keys() == set()


@pytest.mark.parametrize(
    "pin", ["celery[redis]==", "kombu[redis]==", "psycopg[binary]==", "coverage[toml]=="]
)
def test_what_is_asked_for_with_an_extra_is_pinned_with_it(pin: str):
    # Otherwise pip refuses the lock on the day on which a newer release is out (seen with coverage 7.17.4).
    assert re.search(rf"^{re.escape(pin)}", read("dev"), flags=re.MULTILINE)


def test_the_build_backend_is_the_one_that_is_locked():
    backend = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    written = (pages.ROOT / "requirements/build.in").read_text().splitlines()

    assert backend[0] in written
    assert pins("demo")["hatchling"].startswith(f"{backend[0]} ")
