"""Lint of a haproxy.cfg: what would cost requests, or execute them twice, each with its measurement.

The measurements: HAProxy 2.6, 400 requests a second in an open loop on two servers of which one is
killed, frozen, drained or put into maintenance. An error loses or doubles requests, or lets somebody in; a
warning costs more of them than need be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ha_tasks.model.haproxy_file import Line, Section, parameter, parse, time_ms
from ha_tasks.model.haproxy_retries import repeatable
from ha_tasks.model.plain import Json

SLOWEST_MARK_MS = 1500.0
"""inter times fall: later than this a server is not worth being called checked."""
SLOWEST_DATABASE_CONNECT_MS = 1000.0
LEAST_WEIGHT = 100
DEFAULT_INTER_MS, DEFAULT_FALL = 2000.0, 3
_LOOPBACK = ("127.", "ipv4@127.", "localhost:", "[::1]:", "::1:", "ipv6@::1:")
_PRIVATE = ("/", "unix@", "abns@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``line`` counts from 1; ``why``: what was measured."""

    line: int
    rule: str
    where: str
    what: str
    why: str
    mending: str
    warning: bool = False

    def to_json(self) -> Json:
        """The finding as plain JSON."""
        return {
            "line": self.line,
            "level": "warning" if self.warning else "error",
            "rule": self.rule,
            "where": self.where,
            "what": self.what,
            "why": self.why,
            "mending": self.mending,
        }


def lint(
    text: str, databases: frozenset[str] = frozenset(), expected: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[Finding, ...]:
    """Everything that is to be said of the file, in the order of its lines.

    ``databases``: names of backends in front of databases, beside those that can be told by themselves;
    ``expected``: backend -> servers that the inventory has there.
    """
    sections = parse(text)
    found = [*_runtime_api(sections), *_expected(sections, expected or {})]
    for section in sections:
        if section.kind == "":
            found.append(_stray(section.lines[0]))
        if section.kind in ("frontend", "listen"):
            found += _missing_timeouts(section, "client")
        if section.kind in ("backend", "listen") and section.servers:
            found += _backend(section, is_database(section, databases))
    return tuple(sorted(found, key=lambda finding: finding.line))


def is_database(section: Section, databases: frozenset[str] = frozenset()) -> bool:
    """Named so by the inventory, checked as one, or with servers on PostgreSQL's own port."""
    checked = any(section.option(name) for name in ("pgsql-check", "redis-check", "mysql-check"))
    usual = any(server.words[2].endswith(":5432") for server in section.servers)
    return section.name in databases or checked or usual


def _backend(section: Section, database: bool) -> Iterator[Finding]:
    yield from _missing_timeouts(section, "connect", "server")
    yield from _unchecked(section)
    yield from _slow_checks(section)
    yield from _check_timeout(section)
    yield from _light(section)
    if database:
        yield from _database(section)
    elif section.mode == "http":
        yield from _http(section)


def _http(section: Section) -> Iterator[Finding]:
    yield from _cut(section)
    yield from _doubled(section)
    yield from _redispatch(section)
    yield from _retry_on(section)
    yield from _observed(section)
    if section.option("httpchk") is None:
        yield _finding(
            section,
            "http-check",
            "its check only opens a connection",
            "the kernel takes connections for a frozen process, so the check stays good: 702 of 1,800 "
            "requests failed, and were still failing 7 s after the fault",
            "option httpchk, with http-check send ... and http-check expect status 200",
            warning=True,
        )


def _runtime_api(sections: tuple[Section, ...]) -> Iterator[Finding]:
    whole = next((s for s in sections if s.kind == "global"), None)
    sockets = whole.all("stats", "socket") if whole else ()
    admin = [line for line in sockets if parameter(line.words, "level") == "admin" and len(line.words) > 2]
    if not admin:
        number = sockets[0].number if sockets else (whole.number if whole else 1)
        yield Finding(
            line=number,
            rule="runtime-api",
            where="global",
            what="it has no runtime API at level admin",
            why="without it nothing can be taken out, drained or put in by ha_tasks",
            mending="stats socket /run/haproxy/admin.sock level admin mode 600",
        )
    for line in admin:
        yield from _open_socket(line)


def _open_socket(line: Line) -> Iterator[Finding]:
    address = line.words[2]
    why = "it has no password: who reaches it takes any server out of rotation"
    if address.startswith(_PRIVATE):
        mode = parameter(line.words, "mode")
        if mode is None or mode[-1] != "0":
            yield Finding(
                line=line.number,
                rule="runtime-api-open",
                where="global",
                what="other users of the machine may use the runtime API",
                why=why,
                mending="end the line with: mode 600, or mode 660 and a group",
                warning=True,
            )
    elif not address.startswith(_LOOPBACK):
        yield Finding(
            line=line.number,
            rule="runtime-api-open",
            where="global",
            what=f"the runtime API listens on {address}, not only on this machine",
            why=why,
            mending="use a Unix socket, or an address that only the control plane reaches",
            warning=True,
        )


def _expected(sections: tuple[Section, ...], expected: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    there = {s.name: s for s in sections if s.kind in ("backend", "listen")}
    why = "ha_tasks sets servers by these names; what HAProxy does not know it cannot set"
    for backend, servers in expected.items():
        section = there.get(backend)
        known = {line.words[1] for line in section.servers} if section else set()
        missing = [name for name in servers if name not in known]
        if section is None:
            missing = [backend]
        if missing:
            yield Finding(
                line=section.number if section else 1,
                rule="inventory",
                where=f"backend {backend}",
                what=f"it is not as the inventory has it: {', '.join(missing)} is missing",
                why=why,
                mending="add it, or mend the inventory; ha-tasks haproxy config writes it as it should be",
            )


def _stray(line: Line) -> Finding:
    return Finding(
        line=line.number,
        rule="no-section",
        where="the file",
        what=f'"{line.words[0]}" stands before the first section',
        why="HAProxy refuses such a file",
        mending="put it below global, defaults, frontend, backend or listen",
    )


def _missing_timeouts(section: Section, *names: str) -> Iterator[Finding]:
    for name in names:
        if section.last("timeout", name) is None:
            yield _finding(
                section,
                "timeout",
                f"it has no timeout {name}",
                "a connection to a frozen process is then held for ever",
                f"timeout {name} ..., here or in defaults",
            )


def _unchecked(section: Section) -> Iterator[Finding]:
    unchecked = [s for s in section.servers if "check" not in _flags(section.server_words(s))]
    if unchecked:
        yield _finding(
            section,
            "no-check",
            f"{_names(unchecked)} has no health check",
            "killed server: 990 of 4,800 requests lost until a check of inter 2s fall 3 had seen it; "
            "without a check it never ends",
            "default-server check inter 500ms fall 2 rise 1",
            at=unchecked[0],
        )


def _slow_checks(section: Section) -> Iterator[Finding]:
    slow = [s for s in section.servers if _marked_down_ms(section.server_words(s)) > SLOWEST_MARK_MS]
    if slow:
        longest = max(_marked_down_ms(section.server_words(s)) for s in slow)
        yield _finding(
            section,
            "slow-check",
            f"a dead server is noticed after {longest / 1000:g} s (inter times fall): {_names(slow)}",
            "killed server, no retries: 990 of 4,800 requests lost with inter 2s fall 3, 175 of 3,600 with "
            "inter 500ms fall 2, 36 of 3,600 with inter 100ms fall 2",
            "default-server check inter 500ms fall 2 rise 1",
            at=slow[0],
            warning=True,
        )


def _marked_down_ms(words: tuple[str, ...]) -> float:
    inter, fall = parameter(words, "inter"), parameter(words, "fall")
    every = time_ms(inter) if inter else None
    times = int(fall) if fall and fall.isdigit() else DEFAULT_FALL
    return (DEFAULT_INTER_MS if every is None else every) * times


def _check_timeout(section: Section) -> Iterator[Finding]:
    if section.last("timeout", "check") is None:
        yield _finding(
            section,
            "check-timeout",
            "it has no timeout check",
            "frozen server: more than 702 of 1,800 requests failed with defaults; 185, out after 2 s, "
            "with inter 500ms fall 2, timeout check 300ms and timeout server 1s",
            "timeout check 300ms",
            warning=True,
        )


def _light(section: Section) -> Iterator[Finding]:
    light = [s for s in section.servers if _too_light(parameter(section.server_words(s), "weight"))]
    if light:
        yield _finding(
            section,
            "weight",
            f"{_names(light)} has a weight below {LEAST_WEIGHT}, so that shares of it are rounded",
            "30 % of weight 1 is weight 0: no traffic at all, and the state still says UP",
            "default-server weight 100",
            at=light[0],
            warning=True,
        )


def _too_light(weight: str | None) -> bool:
    """Weight 0 is a decision, not an oversight."""
    return weight is None or (weight.isdigit() and 0 < int(weight) < LEAST_WEIGHT)


def _cut(section: Section) -> Iterator[Finding]:
    cut = [
        s
        for s in section.servers
        if parameter(section.server_words(s), "on-marked-down") == "shutdown-sessions"
    ]
    if cut:
        yield _finding(
            section,
            "cuts-requests",
            f"on-marked-down shutdown-sessions before HTTP: {_names(cut)}",
            "it cuts at a planned maintenance too: 75 of 900 requests failed, none without it",
            "remove on-marked-down shutdown-sessions; it is for databases",
            at=cut[0],
        )


def _doubled(section: Section) -> Iterator[Finding]:
    methods, retry = repeatable(section), section.last("retry-on")
    if methods and retry is not None:
        yield _finding(
            section,
            "retries-unsafe",
            f"retry-on may deliver a {' or a '.join(methods)} twice",
            "a server that read the request and died: 20 POSTs were delivered 23 times; with the rule 20",
            "http-request disable-l7-retry if !METH_GET, in this backend",
            at=retry,
        )


def _redispatch(section: Section) -> Iterator[Finding]:
    if section.option("redispatch") is None:
        yield _finding(
            section,
            "redispatch",
            "a request whose server is dead is tried on the same server again",
            "killed server, 3 retries without redispatch: 991 of 4,800 requests lost, with it 4",
            "option redispatch 1, and retries 2",
        )


def _retry_on(section: Section) -> Iterator[Finding]:
    if section.last("retry-on") is None:
        yield _finding(
            section,
            "retry-on",
            "requests under way at a server that dies are lost",
            "4 of 4,800 with redispatch alone, 0 with retry-on, the slowest 32 ms",
            "retry-on all-retryable-errors, and http-request disable-l7-retry if !METH_GET",
            warning=True,
        )


def _observed(section: Section) -> Iterator[Finding]:
    blind = [s for s in section.servers if parameter(section.server_words(s), "observe") is None]
    if blind:
        yield _finding(
            section,
            "observe",
            f"failing requests do not mark a server down: {_names(blind)}",
            "killed server, no retries: 8 of 3,600 requests lost with it, 175 by checks alone",
            "default-server observe layer4 error-limit 3 on-error mark-down",
            at=blind[0],
            warning=True,
        )


def _database(section: Section) -> Iterator[Finding]:
    retries = section.last("retries")
    if retries is None or retries.words[1:2] != ("0",):
        yield _finding(
            section,
            "database-retries",
            "clients of a database are held on a dead server by retries",
            "each retry waits about a second on the same server; the client's own pool would know better",
            "retries 0",
            at=retries,
        )
    connect = section.last("timeout", "connect")
    ms = time_ms(connect.words[2]) if connect and len(connect.words) > 2 else None
    if ms is not None and ms > SLOWEST_DATABASE_CONNECT_MS:
        yield _finding(
            section,
            "database-connect",
            f"clients wait {ms / 1000:g} s for a server that does not answer",
            "an outage of a failover is as long as its slowest wait",
            "timeout connect 500ms",
            at=connect,
            warning=True,
        )
    kept = [
        s
        for s in section.servers
        if parameter(section.server_words(s), "on-marked-down") != "shutdown-sessions"
    ]
    if kept:
        yield _finding(
            section,
            "database-sessions",
            f"sessions stay on a server that was marked down: {_names(kept)}",
            "a client of a dead or superseded primary waits until its own timeout, minutes by default",
            "default-server on-marked-down shutdown-sessions",
            at=kept[0],
        )


def _flags(words: tuple[str, ...]) -> set[str]:
    """``check``, unless a ``no-check`` comes behind it."""
    last = [word for word in words if word in ("check", "no-check")]
    return set(last[-1:])


def _names(servers: list[Line]) -> str:
    return ", ".join(line.words[1] for line in servers)


def _finding(
    section: Section,
    rule: str,
    what: str,
    why: str,
    mending: str,
    *,
    at: Line | None = None,
    warning: bool = False,
) -> Finding:
    return Finding(
        line=at.number if at else section.number,
        rule=rule,
        where=section.title,
        what=what,
        why=why,
        mending=mending,
        warning=warning,
    )
