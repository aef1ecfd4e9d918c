"""A fault in a file that a person wrote: where it is, what is wrong, how to mend it.

The rules here turn a validator's findings (a list of plain mappings as pydantic gives them) into
faults, with the JSON schema of the file as the source of the keys that are known. No value of a
file is ever repeated in a message, unless it is a number or one of a closed list of words: a password
that was written in the wrong place must not travel on into a log.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Location: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the root of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``key`` is dotted, from the root of the file; '' means the file as a whole."""

    file: str
    key: str
    problem: str
    mending: str

    def __str__(self) -> str:
        """One line: where, what, how to mend it."""
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.problem}; {self.mending}"

    def to_json(self) -> dict[str, str]:
        """The fault as plain JSON."""
        return {"file": self.file, "key": self.key, "problem": self.problem, "mending": self.mending}


def closest(word: str, known: Iterable[str]) -> str:
    """A remedy for a word that is not known: the nearest one, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(names)}" if names else "nothing is known here: remove it"


def dotted(location: Location, content: Any) -> str:  # noqa: ANN401 - what TOML can hold
    """``("services", "web", "instances", 0)`` -> ``services.web.instances.web1``, by the entry's name."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            entry = _enter(content, part)
            title = _title(entry)
            parts.append(f".{title}" if title else f"[{part}]")
        else:
            parts.append(f".{part}")
        content = _enter(content, part)
    return "".join(parts).removeprefix(".")


def _title(entry: Any) -> str:  # noqa: ANN401 - what TOML can hold
    """The name by which a person knows an entry of a list."""
    if not isinstance(entry, Mapping):
        return ""
    return next((str(entry[key]) for key in ("name", "id", "action") if entry.get(key)), "")


def _enter(content: Any, part: str | int) -> Any:  # noqa: ANN401 - what TOML can hold
    if isinstance(content, Mapping):
        return content.get(part)
    if isinstance(content, list) and isinstance(part, int) and part < len(content):
        return content[part]
    return None


def schema_at(schema: Mapping[str, Any], location: Location) -> Mapping[str, Any]:
    """The part of a JSON schema that describes ``location``; empty when there is none."""
    part: Mapping[str, Any] = schema
    for step in location:
        part = resolved(schema, part)
        if isinstance(step, int):
            part = part.get("items", {})
        else:
            named = next(iter(part.get("patternProperties", {}).values()), None)
            part = part.get("properties", {}).get(step) or named or part.get("additionalProperties") or {}
    return resolved(schema, part)


def resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows ``$ref``, and the one real alternative of an optional value."""
    for option in part.get("anyOf", ()):
        if option.get("type") != "null":
            part = {**option, **{key: value for key, value in part.items() if key != "anyOf"}}
            break
    if "$ref" in part:
        name = part["$ref"].rsplit("/", 1)[-1]
        return {**schema["$defs"][name], **{k: v for k, v in part.items() if k == "description"}}
    return part


def faults_of(
    findings: Sequence[Mapping[str, Any]],
    *,
    schema: Mapping[str, Any],
    content: Mapping[str, Any],
    file: str,
) -> tuple[Fault, ...]:
    """Every finding as a fault, in the order of the file's keys as they were found."""
    return tuple(_fault(finding, schema, content, file) for finding in findings)


def _fault(
    finding: Mapping[str, Any], schema: Mapping[str, Any], content: Mapping[str, Any], file: str
) -> Fault:
    location: Location = tuple(part for part in finding["loc"] if part != "[key]")
    problem, mending = _explained(finding, schema, location)
    return Fault(file=file, key=dotted(location, content), problem=problem, mending=mending)


def _explained(finding: Mapping[str, Any], schema: Mapping[str, Any], location: Location) -> tuple[str, str]:
    kind, context = finding["type"], finding.get("ctx", {})
    if kind == "extra_forbidden":
        known = schema_at(schema, location[:-1]).get("properties", {})
        return "unknown key", closest(str(location[-1]), known)
    described = _description(schema, location)
    if kind == "missing":
        return "is missing", f"add it: {described}"
    if kind == "literal_error":
        return _not_a_choice(finding, context)
    if kind == "value_error":
        said = context["error"].args
        return str(said[0]), str(said[1]) if len(said) > 1 else described
    if kind.endswith("_type"):
        return f"must be {_SHAPES.get(kind, 'something else')}", f"expected: {described}"
    return str(finding["msg"]).replace("Input should", "must").replace(
        "String should", "must"
    ), f"expected: {described}"


def _not_a_choice(finding: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, str]:
    words = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
    return f'"{finding["input"]}" is none of {", ".join(words)}', closest(str(finding["input"]), words)


def _description(schema: Mapping[str, Any], location: Location) -> str:
    text = str(schema_at(schema, location).get("description", "")).split("\n")[0]
    return text or "see the reference page"


_SHAPES: Mapping[str, str] = {
    "string_type": 'a text in quotes, like "web1"',
    "int_type": "a whole number without quotes",
    "float_type": "a number without quotes",
    "bool_type": "true or false, without quotes",
    "list_type": "a list, like [ ... ]",
    "dict_type": "a table, like { ... } or [section]",
    "model_type": "a table, like { ... } or [section]",
    "model_attributes_type": "a table, like { ... } or [section]",
}
