"""``ha-tasks audit``: who did what to what; and whether the record of it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ha_tasks.adapters.audit_heads import HeadFile
from ha_tasks.cli.lines import BAD, DIM, GOOD, HEAD, Line, columns, moment
from ha_tasks.cli.numbers import HOW_MANY
from ha_tasks.cli.session import Session, pass_session, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.audit import AuditEntry, Verification
from ha_tasks.model.plain import Json

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BROKEN = 1
LONGEST = 60
"""Characters of one value; all of it is printed with --json."""
LONGEST_OBJECT = 30
"""Characters of an object in the table: one long list of servers must not push every row aside."""


@click.group("audit")
@with_home
@with_json
def command() -> None:
    """List who did what to what, and verify that nothing of it was changed or taken out."""


@command.command("list")
@click.option("--since", metavar="TIME", help="Since an ISO time (UTC), or so long ago: 30m, 2h, 7d.")
@click.option("--object", "about", metavar="WORDS", help='Only about this: "I-3", "run 7", "switch stop".')
@click.option("--verb", metavar="VERB", help='Only this: "run.aborted"; or all below it: "run".')
@click.option("--limit", default=50, show_default=True, type=HOW_MANY, help="At most so many.")
@with_home
@with_json
@pass_session
def list_(session: Session, since: str | None, about: str | None, verb: str | None, limit: int) -> None:
    """The newest entries, the latest last."""
    system = session.system()
    now = system.clock.now()
    start = None if since is None else moment_of(since, now)
    entries = system.store.audit.latest(limit, since=start, object=about, verb=verb)
    content: Json = {"at": now.isoformat(), "entries": [described(entry) for entry in reversed(entries)]}
    session.result(content, lines)


@command.command("verify")
@click.option(
    "--heads",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File of heads to believe instead of the configured one, for example a copy kept elsewhere.",
)
@with_home
@with_json
@pass_session
def verify(session: Session, heads: Path | None) -> int:
    """Walk the whole chain, and compare it with the heads written down outside the database.

    Exit status 1 at the first entry that is not as it was written.
    """
    from ha_tasks.workflows.witness import verify as walked

    system = session.system()
    file = system.audit_heads if heads is None else HeadFile(heads)
    if heads is not None and not file.known():
        raise UsageError(f"{heads} holds no head of an audit chain; name a copy of the file of heads")
    found = walked(system.store.audit, file)
    session.result(found_described(found), verify_lines)
    return 0 if found.ok else BROKEN


def moment_of(text: str, now: datetime) -> datetime:
    """An ISO time (UTC unless it says another), or ``7d`` ago. Raises UsageError."""
    try:
        if text[:-1].isdigit() and text[-1:] in UNITS:
            return now - timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])
        told = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time; write 2026-11-24T12:00, or how long ago: 30m, 2h, 7d"
        ) from None
    return told if told.tzinfo else told.replace(tzinfo=now.tzinfo)


def described(entry: AuditEntry) -> Json:
    """An entry as JSON."""
    return {
        "seq": entry.seq,
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "verb": entry.verb,
        "object": entry.object,
        "before": entry.before,
        "after": entry.after,
        "hash": entry.hash,
    }


def found_described(found: Verification) -> Json:
    """What verification came to."""
    return {
        "ok": found.ok,
        "entries": found.entries,
        "head": {"seq": found.head.seq, "hash": found.head.hash},
        "witnessed": found.witnessed,
        "broken": None
        if found.broken is None
        else {"seq": found.broken.seq, "problem": found.broken.problem},
    }


def lines(content: Json) -> Iterator[Line]:
    """A line for each entry, with what it changed."""
    if not content["entries"]:
        yield ["nothing is recorded"]
        return
    yield from columns(
        ["SEQ", "WHEN", "WHO", "DID", "TO", "WHAT CHANGED"],
        [
            [
                str(entry["seq"]),
                (moment(entry["at"], content["at"]), DIM),
                entry["actor"] or "-",
                (entry["verb"], HEAD),
                _short(entry["object"], LONGEST_OBJECT),
                changed(entry["before"], entry["after"]),
            ]
            for entry in content["entries"]
        ],
    )


def changed(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """``state open -> blocked, why a guard says no``: what is known of both, then what is new."""
    old, new = before or {}, after or {}
    both = [
        f"{key} {_word(old[key])} -> {_word(new[key])}" for key in old if key in new and old[key] != new[key]
    ]
    rest = [
        f"{key} {_word(new[key])}" for key in ("why", "reason", "summary", "error", "wanted") if new.get(key)
    ]
    return ", ".join([*both, *rest])


def _word(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_word(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "[" + " ".join(_word(each) for each in value) + "]"
    text = "-" if value is None else str(value)
    return _short(text, LONGEST)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def verify_lines(content: Json) -> Iterator[Line]:
    """Whole, or where it is broken and what to do."""
    if content["ok"]:
        text = f": {content['entries']} entries, {content['witnessed']} heads written down elsewhere agree"
        yield [("the audit chain is whole", GOOD), text]
        yield [f"newest: {content['head']['seq']} {content['head']['hash']}"]
        return
    broken = content["broken"]
    yield [("the audit chain is broken", BAD), f" at entry {broken['seq']}: it {broken['problem']}"]
    yield [f"{content['entries']} entries before it are as they were written"]
    yield [
        "keep the database and the file of heads as they are, and see: docs/howto/verify-the-audit-chain.md"
    ]
