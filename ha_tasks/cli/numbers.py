"""Numbers that people type, within what a store, a calendar and a clock can hold."""

from __future__ import annotations

import math

import click

LARGEST = 2**63 - 1
"""What a column of either store holds."""

NUMBER = click.IntRange(1, LARGEST)
"""The number of a row: of a run, of a window."""

HOW_MANY = click.IntRange(1, 10_000)
"""Rows of one answer."""

BYTES = click.IntRange(0, LARGEST)


def seconds(text: str) -> float:
    """A length of time that ends: neither negative, nor infinite, nor no number. A type for click."""
    try:
        told = float(text)
    except ValueError:
        told = math.nan
    if not 0 <= told < math.inf:
        raise click.BadParameter(f"{text!r} is no number of seconds, 0 or more.")
    return told
