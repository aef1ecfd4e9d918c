"""Drift: what a balancer has otherwise than it is wanted."""

from __future__ import annotations

import pytest

from ha_tasks.model.balancer import Drift, ServerState, ServerStatus, WantedServer, drift, latest

READY, DRAIN, MAINT = ServerState.READY, ServerState.DRAIN, ServerState.MAINT


def wanted(server: str, state: ServerState, generation: int = 1, backend: str = "web") -> WantedServer:
    return WantedServer(backend=backend, server=server, state=state, generation=generation)


def actual(server: str, state: ServerState, backend: str = "web") -> ServerStatus:
    return ServerStatus(
        backend=backend, server=server, address="h:1", admin=state, up=True, weight=100, sessions=0
    )


def differs(server: str, want: ServerState, have: ServerState, backend: str = "web") -> Drift:
    return Drift(backend=backend, server=server, wanted=want, actual=have)


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        pytest.param([], [actual("a", READY)], [], id="nothing is wanted"),
        pytest.param([wanted("a", READY)], [actual("a", READY)], [], id="as wanted"),
        pytest.param([wanted("a", MAINT)], [actual("a", READY)], [differs("a", MAINT, READY)], id="other"),
        pytest.param([wanted("a", MAINT)], [actual("a", DRAIN)], [differs("a", MAINT, DRAIN)], id="drain"),
        pytest.param([wanted("a", MAINT)], [], [], id="unknown to the balancer"),
        pytest.param(
            [wanted("a", MAINT)], [actual("a", READY, "api")], [], id="same name in another backend"
        ),
        pytest.param(
            [wanted("a", MAINT, 2), wanted("a", READY, 1)],
            [actual("a", MAINT)],
            [],
            id="an older generation does not count",
        ),
        pytest.param(
            [wanted("b", READY), wanted("c", MAINT)],
            [actual("b", MAINT), actual("c", READY)],
            [differs("c", MAINT, READY), differs("b", READY, MAINT)],
            id="taken out before put in",
        ),
    ],
)
def test_drift_is_what_must_change(
    want: list[WantedServer], have: list[ServerStatus], expected: list[Drift]
) -> None:
    assert drift(tuple(want), tuple(have)) == tuple(expected)


def test_drift_names_its_balancer() -> None:
    found = drift((wanted("a", MAINT),), (actual("a", READY),), "edge")

    assert [d.balancer for d in found] == ["edge"]


def test_the_latest_row_of_a_server_is_the_one_of_the_highest_generation() -> None:
    rows = (wanted("a", MAINT, 3), wanted("a", READY, 1), wanted("b", READY, 2))

    assert {key: row.state for key, row in latest(rows).items()} == {
        ("web", "a"): MAINT,
        ("web", "b"): READY,
    }
