"""The hash of a plan: one name for everything that decides what is done, so that what runs is what was shown.

In it: the playbook (name, version, digest of its file), the targets, every step with its arguments, order,
limits, way back and the package that brings its action, the gates, and the situation that the plan was
made for (of a PostgreSQL cluster its primary, its synchronous sets and promotions that did not end; of
others who is in rotation): the steps look there for whom they fence, promote or put in.
Not in it: the sentence that sums it up; how much data may be lost, which is said with the order; the
incident, so that a plan that was read before the failure can be run for it; the epoch, which grows also
where nothing else has changed; how far each standby is, which changes with every commit and is judged by
the step itself, under the protocol's rule.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict

from ha_tasks.errors import UsageError
from ha_tasks.model.plain import Json
from ha_tasks.model.playbook import Plan

SHORTEST = 8
_WORD = re.compile(r"[0-9a-f]{8,64}")


def plan_hash(plan: Plan) -> str:
    """SHA-256 in 64 hexadecimal digits, over the plan as JSON with sorted keys."""
    text = json.dumps(_content(plan), sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_word(word: str) -> str:
    """What a person wrote for a plan's hash, in small letters. UsageError when it is none."""
    told = word.strip().lower()
    if not _WORD.fullmatch(told):
        raise UsageError(
            f'"{word}" is no hash of a plan; write its first {SHORTEST} digits or more, '
            "as `ha-tasks plan SERVICE` shows them"
        )
    return told


def is_named(plan: Plan, word: str) -> bool:
    """True when the word is the plan's hash, or the beginning of it."""
    return plan_hash(plan).startswith(hash_word(word))


def plan_changes(before: Plan, after: Plan) -> tuple[tuple[str, str, str], ...]:
    """(what, then, now) of everything that makes the hashes differ, in the order of the plan."""
    return tuple(_differences("", _content(before), _content(after)))


def _content(plan: Plan) -> Json:
    body: Json = dict(json.loads(json.dumps(asdict(plan), default=str)))
    del body["summary"], body["accepts"]
    return body


def _differences(path: str, before: object, after: object) -> Iterator[tuple[str, str, str]]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(inner, before.get(key), after.get(key))
    elif path == "steps" and isinstance(before, list) and isinstance(after, list):
        then, now = ({step["id"]: step for step in steps} for steps in (before, after))
        if list(then) != list(now) and then.keys() == now.keys():
            yield "order", _said(list(then)), _said(list(now))
        for name in dict.fromkeys((*then, *now)):
            yield from _differences(f"step {name}", then.get(name), now.get(name))
    else:
        yield path, _said(before), _said(after)


def _said(value: object) -> str:
    match value:
        case None | "" | []:
            return "nothing"
        case {"id": _, "action": action}:
            return f"a step {action}"
        case list():
            return ", ".join(_said(each) for each in value)
        case {"quorum": quorum, "members": members}:
            return f"ANY {quorum} ({', '.join(members)})"
        case dict():
            return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
        case _:
            return str(value)
