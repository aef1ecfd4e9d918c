"""Environment overrides: ``HA_TASKS__SERVICES__WEB__RTO_S=10`` sets ``services.web.rto_s``.

Two underscores stand for a dot. A segment is compared with the keys of the file without regard to
case, and - equals _; in a list it names the entry (``...__INSTANCES__WEB1__ADDRESS``). A key that the
file does not have is added in lower case. A value is read as TOML when it is a number, true, false, a
list, an inline table or a quoted text; anything else is a text as it stands.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ha_tasks.model.fault import Fault, Location, closest, dotted

PREFIX = "HA_TASKS__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """The content with every override applied. ``sources``: dotted key -> variable that set it."""

    content: dict[str, Any]
    sources: Mapping[str, str]
    faults: tuple[Fault, ...]


class _NoSuchPlace(Exception):
    """A segment that leads nowhere; carries problem and mending."""


def override(content: Mapping[str, Any], environ: Mapping[str, str]) -> Overridden:
    """Applies every ``HA_TASKS__...`` variable, in alphabetical order; the content given stays as it is."""
    result = copy.deepcopy(dict(content))
    sources: dict[str, str] = {}
    faults: list[Fault] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        try:
            location = _put(result, variable.removeprefix(PREFIX).split("__"), _value(environ[variable]))
        except _NoSuchPlace as nowhere:
            problem, mending = nowhere.args
            faults.append(Fault(file="environment", key=variable, problem=problem, mending=mending))
        else:
            sources[dotted(location, result)] = variable
    return Overridden(content=result, sources=sources, faults=tuple(faults))


def variable_for(key: str, sources: Mapping[str, str]) -> str | None:
    """The variable that set ``key`` or a table around it; None: it stands in the file."""
    parts = key.split(".")
    keys = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((sources[k] for k in keys if k in sources), None)


def _value(text: str) -> Any:  # noqa: ANN401 - what TOML can hold
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str | list | dict) else text


def _put(content: dict[str, Any], segments: list[str], value: Any) -> Location:  # noqa: ANN401
    """Sets the value at the place that the segments lead to; answers where that was."""
    if not all(segments):
        raise _NoSuchPlace("is no path to a key", f"write it like {PREFIX}STORE__URL")
    place: Any = content
    location: Location = ()
    for segment in segments[:-1]:
        key = _key(place, segment)
        if isinstance(place, dict):
            place.setdefault(key, {})
        place, location = place[key], (*location, key)
    key = _key(place, segments[-1])
    place[key] = value
    return (*location, key)


def _key(place: Any, segment: str) -> Any:  # noqa: ANN401 - a key of a table or a place in a list
    if isinstance(place, dict):
        return next((key for key in place if _same(key, segment)), segment.lower())
    if not isinstance(place, list):
        raise _NoSuchPlace(
            f"leads into a value: {segment.lower()} has nothing to stand in", "shorten the path"
        )
    names = [str(entry.get("name", "")) if isinstance(entry, dict) else "" for entry in place]
    found = next((number for number, name in enumerate(names) if _same(name, segment)), None)
    if found is None:
        raise _NoSuchPlace(f"names {segment.lower()}, which the file does not list", closest(segment, names))
    return found


def _same(key: str, segment: str) -> bool:
    return key.lower().replace("-", "_") == segment.lower().replace("-", "_")
