"""Which requests HAProxy may send a second time: the conditions of ``http-request disable-l7-retry``.

A condition that cannot be judged from the file (an address, a header) is taken as not covering anything:
what may be delivered twice must be excluded in words that everybody can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ha_tasks.model.haproxy_file import Line, Section

NEVER_TWICE = ("POST", "PATCH")
"""Methods that are not idempotent (RFC 9110, section 9.2.2, and RFC 5789)."""
HARMLESS = frozenset({"none", "conn-failure", "0rtt-rejected"})
"""Reasons of ``retry-on`` for which the server has not read the request."""
_METHODS: Mapping[str, frozenset[str]] = {
    "METH_CONNECT": frozenset({"CONNECT"}),
    "METH_DELETE": frozenset({"DELETE"}),
    "METH_GET": frozenset({"GET", "HEAD"}),
    "METH_HEAD": frozenset({"HEAD"}),
    "METH_OPTIONS": frozenset({"OPTIONS"}),
    "METH_POST": frozenset({"POST"}),
    "METH_PUT": frozenset({"PUT"}),
    "METH_TRACE": frozenset({"TRACE"}),
    "TRUE": frozenset(NEVER_TWICE),
    "FALSE": frozenset(),
}
"""HAProxy's own ACLs of methods (Configuration Manual, section 7.4)."""


def repeatable(section: Section) -> tuple[str, ...]:
    """Methods that must not be repeated and would be, in the order of NEVER_TWICE."""
    retry = section.last("retry-on")
    if retry is None or set(retry.words[1:]) <= HARMLESS:
        return ()
    rules = section.all("http-request", "disable-l7-retry")
    named = _named(section.all("acl"))
    return tuple(m for m in NEVER_TWICE if not any(_covers(rule, m, named) for rule in rules))


def _named(acls: Iterable[Line]) -> Mapping[str, frozenset[str]]:
    """ACLs of this section that look at the method alone; lines of one name are joined."""
    named = dict(_METHODS)
    for line in acls:
        if len(line.words) > 3 and line.words[2] == "method":
            named[line.words[1]] = named.get(line.words[1], frozenset()) | _listed(line.words[3:])
    return named


def _listed(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word for word in words if not word.startswith("-"))


def _covers(rule: Line, method: str, named: Mapping[str, frozenset[str]]) -> bool:
    """True when the rule surely takes effect for a request of that method."""
    condition = rule.words[2:]
    if not condition:
        return True
    terms = [_judged(term, method, named) for term in _alternatives(condition[1:])]
    if condition[0] == "unless":
        return all(False in term for term in terms)
    return condition[0] == "if" and any(set(term) == {True} for term in terms)


def _alternatives(words: Iterable[str]) -> list[list[str]]:
    """A condition as the alternatives of its ``or``, each a list of tests that must all hold."""
    terms: list[list[str]] = [[]]
    inside: list[str] | None = None
    for word in words:
        if inside is not None:
            inside.append(word)
            if word == "}":
                terms[-1].append(" ".join(inside))
                inside = None
        elif word in ("{", "!{"):
            inside = [word]
        elif word in ("or", "||"):
            terms.append([])
        else:
            terms[-1].append(word)
    return terms


def _judged(term: Iterable[str], method: str, named: Mapping[str, frozenset[str]]) -> list[bool | None]:
    """What each test of an alternative says of the method; None: it cannot be told."""
    negated, answers = False, list[bool | None]()
    for test in term:
        if test == "!":
            negated = not negated
            continue
        turned = negated != test.startswith("!")
        methods = _tested(test.lstrip("!"), named)
        answers.append(None if methods is None else (method in methods) != turned)
        negated = False
    return answers


def _tested(test: str, named: Mapping[str, frozenset[str]]) -> frozenset[str] | None:
    words = test.split()
    if words[:2] == ["{", "method"]:
        return _listed(words[2:-1])
    return named.get(test)
