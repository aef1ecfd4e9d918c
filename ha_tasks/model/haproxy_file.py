"""A configuration file of HAProxy, read into sections and words: what is written, and what then holds.

HAProxy's own rules of quoting (Configuration Manual 2.6, section 2.2): ``'...'`` is taken as it is, in
``"..."`` and outside a backslash protects the next character, ``#`` begins a comment unless it is protected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PROXIES = ("frontend", "backend", "listen")
SECTIONS = (
    *("global", "defaults", *PROXIES, "peers", "resolvers", "userlist", "mailers", "program", "ring"),
    *("http-errors", "log-forward", "log-profile", "cache", "fcgi-app", "crt-store", "traces", "acme"),
)
_SERVER_LINES = {"server": 2, "server-template": 3}
"""Keyword -> the place of the address among its words."""
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7, "": 1.0}
_TIME = re.compile(r"(\d+)(us|ms|s|m|h|d|)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``number`` counts from 1; ``words`` are without their quotes, and never none."""

    number: int
    words: tuple[str, ...]

    def begins(self, *words: str) -> bool:
        """True when these are its first words."""
        return self.words[: len(words)] == words


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """``inherited``: the lines of the ``defaults`` that hold here; what is written here goes before them."""

    kind: str
    name: str
    number: int
    lines: tuple[Line, ...]
    inherited: tuple[Line, ...] = ()

    @property
    def title(self) -> str:
        """As it is written: ``backend web``."""
        return f"{self.kind} {self.name}".strip()

    def last(self, *words: str) -> Line | None:
        """The line beginning so that counts: the last one here, else the last of the defaults."""
        for lines in (self.lines, self.inherited):
            found = [line for line in lines if line.begins(*words)]
            if found:
                return found[-1]
        return None

    def all(self, *words: str) -> tuple[Line, ...]:
        """Every line beginning so, those of the defaults first."""
        return tuple(line for line in (*self.inherited, *self.lines) if line.begins(*words))

    def option(self, name: str) -> Line | None:
        """``option NAME``, unless ``no option NAME`` stands nearer."""
        for lines in (self.lines, self.inherited):
            found = [
                line for line in lines if line.begins("option", name) or line.begins("no", "option", name)
            ]
            if found:
                return found[-1] if found[-1].begins("option") else None
        return None

    @property
    def mode(self) -> str:
        """``tcp`` (HAProxy's default), ``http`` or another."""
        line = self.last("mode")
        return line.words[1] if line and len(line.words) > 1 else "tcp"

    @property
    def servers(self) -> tuple[Line, ...]:
        """The lines ``server NAME ADDRESS ...`` and ``server-template PREFIX NUMBER ADDRESS ...``."""
        return tuple(line for line in self.lines if len(line.words) > _SERVER_LINES.get(line.words[0], 99))

    def server_words(self, server: Line) -> tuple[str, ...]:
        """Its parameters behind those of every ``default-server``: the last of a kind counts."""
        own = _SERVER_LINES[server.words[0]] + 1
        return (
            *(word for line in self.all("default-server") for word in line.words[1:]),
            *server.words[own:],
        )


def parse(text: str) -> tuple[Section, ...]:
    """Every section in the order of the file. Lines before the first one are a section without kind."""
    sections: list[Section] = []
    lines: list[Line] = []
    head = Line(number=1, words=("",))
    for number, raw in enumerate(text.splitlines(), 1):
        words = words_of(raw)
        if words and words[0] in SECTIONS:
            sections += _closed(head, lines, sections)
            head, lines = Line(number=number, words=words), []
        elif words:
            lines.append(Line(number=number, words=words))
    return (*sections, *_closed(head, lines, sections))


def _closed(head: Line, lines: Iterable[Line], before: Iterable[Section]) -> tuple[Section, ...]:
    kind, own = head.words[0], tuple(lines)
    if not kind and not own:
        return ()
    name = head.words[1] if len(head.words) > 1 and head.words[1] != "from" else ""
    return (Section(kind=kind, name=name, number=head.number, lines=own, inherited=_defaults(head, before)),)


def _defaults(head: Line, before: Iterable[Section]) -> tuple[Line, ...]:
    """Of the ``defaults`` named behind ``from``, else of the latest one above; its own are in front."""
    if head.words[0] not in (*PROXIES, "defaults"):
        return ()
    known = [section for section in before if section.kind == "defaults"]
    if "from" in head.words[1:-1]:
        wanted = head.words[head.words.index("from") + 1]
        known = [section for section in known if section.name == wanted]
    elif head.words[0] == "defaults":
        return ()
    return (*known[-1].inherited, *known[-1].lines) if known else ()


def words_of(raw: str) -> tuple[str, ...]:
    """The words of a line without quotes and comment. A quote that is never closed ends with the line."""
    words: list[str] = []
    word, quote, begun, protected = "", "", False, False
    for letter in raw:
        if protected:
            word, protected = word + letter, False
        elif letter == "\\" and quote != "'":
            begun = protected = True
        elif quote:
            quote, word = ("", word) if letter == quote else (quote, word + letter)
        elif letter in "'\"":
            quote, begun = letter, True
        elif letter == "#":
            break
        elif letter.isspace():
            words, word, begun = [*words, word] if begun else words, "", False
        else:
            word, begun = word + letter, True
    return (*words, word) if begun else tuple(words)


def time_ms(text: str) -> float | None:
    """``500ms``, ``2s``, ``1m30s`` in milliseconds, without unit they are milliseconds; None: no time."""
    if not re.fullmatch(f"(?:{_TIME.pattern})+", text):
        return None
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _TIME.findall(text))


def parameter(words: tuple[str, ...], name: str) -> str | None:
    """The word behind the last ``name``; None when it is not there."""
    places = [place for place, word in enumerate(words[:-1]) if word == name]
    return words[places[-1] + 1] if places else None
