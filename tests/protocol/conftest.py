"""Worlds on which histories are played."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.protocol.world import World, worlds


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the shipped code has to say about thousands of faults is not read by anybody."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def make() -> Iterator[Callable[[int], World]]:
    with worlds() as made:
        yield made
