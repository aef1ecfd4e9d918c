"""What every test shares: the rule for a server that is missing, and its report at the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from scripts import debian_servers

if TYPE_CHECKING:
    from tests.rabbitmq_server import RabbitmqServer

LIMIT_S = 20.0
"""A test that takes longer belongs to `make test-full`."""

# How long an example takes says how busy the machine is. CI tries the same examples each time, so that a
# red build is about the change; laptops go on searching.
settings.register_profile("house", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("house")

UNTESTED = pytest.StashKey[dict[str, str]]()
SLOW = pytest.StashKey[dict[str, float]]()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    """One server for all tests of the session: it takes seconds to start. They leave it running."""
    from tests.rabbitmq_server import rabbitmq_server

    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs `make test &` has it ignore Ctrl-C, and whatever it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[UNTESTED] = {}
    config.stash[SLOW] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.needs("promtool")`: a laptop skips the test by name, CI fails it."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            remedy = debian_servers.remedy(name)
            if remedy is not None:
                item.config.stash[UNTESTED][name] = remedy
                _do_without(name, remedy)


def _do_without(name: str, remedy: str) -> None:
    reason = f"needs {name}: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI tests everything)", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.duration > LIMIT_S and item.get_closest_marker("full") is None:
        item.config.stash[SLOW][item.nodeid] = report.duration
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Green must not hide what was not tried."""
    for name, duration_s in config.stash[SLOW].items():
        terminalreporter.write_line(f"over {LIMIT_S:.0f} s, belongs to full: {name} ({duration_s:.0f} s)")
    lines = [f"{name} ({remedy})" for name, remedy in config.stash[UNTESTED].items()]
    for line in lines:
        terminalreporter.write_line(f"not tested here: {line}")
    kept = os.environ.get("HA_TASKS_UNTESTED")
    if kept and lines:
        with Path(kept).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
