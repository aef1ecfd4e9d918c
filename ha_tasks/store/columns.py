"""Column types that mean the same on SQLite and PostgreSQL: moments, words from outside, row numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware moment as whole microseconds since 1970 in UTC, so that SQLite compares it rightly too.

    A naive moment is refused (ValueError): nobody knows when it is.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Moment -> microseconds."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        return (value - _BEGINNING) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Microseconds -> moment."""
        return None if value is None else _BEGINNING + value * _MICROSECOND


class Words(TypeDecorator[str]):
    """Text that may come from outside (an error, a probe's detail).

    PostgreSQL takes no NUL and neither driver takes half a surrogate pair; such a character is
    replaced, so that a garbled error message cannot keep a run from being settled.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replaces what a driver would refuse."""
        if value is None:
            return None
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


Id = BigInteger().with_variant(Integer, "sqlite")
"""Number of a row: SQLite counts up only what it calls INTEGER."""

PlainJson: JSON[Any] = JSON(none_as_null=True)
"""A JSON object. Not JSONB on PostgreSQL, which refuses ``\\u0000`` and reorders keys."""
