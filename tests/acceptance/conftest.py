"""One stack for all acceptance tests: starting it costs more than any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running demo, in a path with a space; it leaves nothing behind."""
    demo = Stack(tmp_path_factory.mktemp("a demo") / "ha home")
    demo.start()
    yield demo
    demo.stop()
