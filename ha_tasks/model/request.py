"""Requests of other services, read strictly: ``ha.recovery.request`` and ``ha.recovery.status``. Pure.

The JSON schemas in ``ha_tasks/contract/`` say the same for other languages; a test holds them together.
A wrong value is never repeated in an answer: it may be a secret that was put into the wrong field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Facts, Json

VERSION = 1
MOST_EVIDENCE_BYTES = 8192
DEEPEST = 64
KEY_PATTERN = r"^[!-~]{8,128}$"
NAME_PATTERN = r"^[a-zA-Z][a-zA-Z0-9_-]{0,62}$"
MOST_RUN = 2**63 - 1
"""A BIGINT holds no more."""


class RequestKind(StrEnum):
    """What may be asked for. Playbooks for the last four come with later versions of this package."""

    FAILOVER = "failover"
    RESTART = "restart"
    REJOIN = "rejoin"
    RESTORE = "restore"
    ROLLBACK = "rollback"
    DRAIN = "drain"
    SHIFT = "shift"


class DeskRule(StrEnum):
    """Reasons of the desk itself, beside the guards', to refuse a request; ``guard`` of an answer."""

    NO_PLAYBOOK = "no_playbook"
    OTHER_PLAYBOOK = "other_playbook"
    TARGET_ANSWERS = "target_answers"
    TARGET_IN_DOUBT = "target_in_doubt"
    DEADLINE = "deadline"
    ESCALATED = "escalated"


class AnswerState(StrEnum):
    """States of an answer that are not those of a run."""

    INVALID = "invalid"
    CONFLICT = "conflict"
    REFUSED = "refused"
    REHEARSED = "rehearsed"
    RECEIVED = "received"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """What is wrong with one field of a request, and how to mend it."""

    field: str
    problem: str
    mending: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}; {self.mending}"

    def to_json(self) -> Json:
        """As it stands in an answer."""
        return {"field": self.field, "problem": self.problem, "mending": self.mending}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRequest:
    """A well-formed request. ``scope``: an instance of the service; ``deadline_s``: seconds from its
    receipt within which the run must have begun; ``playbook``: the one that it must come to.
    """

    service: str
    kind: RequestKind
    reason: str
    requested_by: str
    idempotency_key: str
    scope: str | None = None
    playbook: str | None = None
    dry_run: bool = False
    evidence: Facts = field(default_factory=dict)
    deadline_s: float | None = None

    def to_json(self) -> Json:
        """The body with every default filled in: what two equal requests have in common."""
        return {
            "v": VERSION,
            "service": self.service,
            "kind": str(self.kind),
            "scope": self.scope,
            "playbook": self.playbook,
            "reason": self.reason,
            "requested_by": self.requested_by,
            "idempotency_key": self.idempotency_key,
            "dry_run": self.dry_run,
            "evidence": dict(self.evidence),
            "deadline_s": self.deadline_s,
        }

    def sha256(self) -> str:
        """Of the body; key order and left-out defaults make no difference."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuestion:
    """After a run by its number, or after a request by its key: exactly one of the two."""

    run: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """``judge`` answers what is wrong with a value that is given, None: nothing."""

    judge: Callable[[Any], str | None]
    mending: str
    required: bool = False


def parse_request(body: Facts) -> tuple[RecoveryRequest | None, tuple[Wrong, ...]]:
    """The request, or everything that is wrong with it. ``null`` in an optional field: it is left out."""
    wrong = tuple(_judged(body, _REQUEST))
    if wrong:
        return None, wrong
    given = {key: value for key, value in body.items() if value is not None and key != "v"}
    given |= {"kind": RequestKind(given["kind"]), "requested_by": _storable(given["requested_by"])}
    return RecoveryRequest(**given), ()


def _storable(name: str) -> str:
    """PostgreSQL takes no NUL, and neither driver takes half a surrogate pair."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def parse_status(body: Facts) -> tuple[StatusQuestion | None, tuple[Wrong, ...]]:
    """The question, or everything that is wrong with it."""
    wrong = tuple(_judged(body, _STATUS))
    if wrong:
        return None, wrong
    run, key = body.get("run"), body.get("idempotency_key")
    if (run is None) == (key is None):
        mending = "give run (a number) or idempotency_key"
        return None, (Wrong(field="run", problem="exactly one of two is needed", mending=mending),)
    return StatusQuestion(run=None if run is None else int(run), idempotency_key=key), ()


def _judged(body: Facts, fields: Mapping[str, _Field]) -> Iterator[Wrong]:
    for name in body:
        if name not in fields:
            yield Wrong(
                field=str(name)[:64], problem="unknown field", mending=closest(str(name)[:64], fields)
            )
    for name, rule in fields.items():
        value = body.get(name)
        if value is None and rule.required:
            yield Wrong(field=name, problem="is missing", mending=rule.mending)
        elif value is not None and (problem := rule.judge(value)) is not None:
            yield Wrong(field=name, problem=problem, mending=rule.mending)


def _version(value: Any) -> str | None:  # noqa: ANN401 - what JSON can hold
    return None if value == VERSION and _is_whole(value) else "is no version that is known here"


def _is_whole(value: Any) -> bool:  # noqa: ANN401 - as above
    """As JSON schema has it: 1.0 is a whole number, true is none."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)


def _kind(value: Any) -> str | None:  # noqa: ANN401 - as above
    return None if isinstance(value, str) and value in set(RequestKind) else "is none of the kinds"


def _matching(pattern: str, problem: str) -> Callable[[Any], str | None]:
    # fullmatch: with match, "$" lets a line end slip through.
    form = re.compile(pattern)
    return lambda value: None if isinstance(value, str) and form.fullmatch(value) else problem


def _words(most: int) -> Callable[[Any], str | None]:
    def judge(value: Any) -> str | None:  # noqa: ANN401 - as above
        if not isinstance(value, str):
            return "is no text"
        if not value.strip():
            return "is empty"
        return f"is longer than {most} characters" if len(value) > most else None

    return judge


def _flag(value: Any) -> str | None:  # noqa: ANN401 - as above
    return None if isinstance(value, bool) else "is neither true nor false"


def _evidence(value: Any) -> str | None:  # noqa: ANN401 - as above
    if not isinstance(value, Mapping):
        return "is no object"
    try:
        length = len(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return "is no plain JSON"
    if length > MOST_EVIDENCE_BYTES:
        return f"is longer than {MOST_EVIDENCE_BYTES} bytes as JSON"
    return f"is nested more than {DEEPEST} deep" if _is_deeper(value, DEEPEST) else None


def _is_deeper(value: Any, levels: int) -> bool:  # noqa: ANN401 - as above
    """Whoever reads it later must not run out of stack."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_is_deeper(each, levels - 1) for each in inner))


def _seconds(value: Any) -> str | None:  # noqa: ANN401 - as above
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if number and 0 < value <= 86400 else "is no number of seconds above 0 and up to 86400"


def _run(value: Any) -> str | None:  # noqa: ANN401 - as above
    return None if _is_whole(value) and 1 <= value <= MOST_RUN else "is no number of a run"


_NAME = _matching(NAME_PATTERN, "is no name")
_KEY = _Field(
    judge=_matching(KEY_PATTERN, "is no key"),
    mending="8 to 128 printable ASCII characters without blanks; a new one for each new wish",
)
_V = _Field(judge=_version, mending="write 1", required=True)

_REQUEST: Mapping[str, _Field] = {
    "v": _V,
    "service": _Field(judge=_NAME, mending="a service of the inventory", required=True),
    "kind": _Field(judge=_kind, mending=f"one of {', '.join(RequestKind)}", required=True),
    "scope": _Field(judge=_NAME, mending="an instance of the service, or leave it out"),
    "playbook": _Field(judge=_NAME, mending="the name of a playbook, or leave it out"),
    "reason": _Field(judge=_words(500), mending="say why, in 1 to 500 characters", required=True),
    "requested_by": _Field(judge=_words(128), mending="say who, in 1 to 128 characters", required=True),
    "idempotency_key": _Field(judge=_KEY.judge, mending=_KEY.mending, required=True),
    "dry_run": _Field(judge=_flag, mending="true or false; left out: false"),
    "evidence": _Field(judge=_evidence, mending="an object of plain JSON, without secrets, or leave it out"),
    "deadline_s": _Field(judge=_seconds, mending="like 60, or leave it out"),
}

_STATUS: Mapping[str, _Field] = {
    "v": _V,
    "run": _Field(judge=_run, mending="the number that the answer to the request gave"),
    "idempotency_key": _KEY,
}
