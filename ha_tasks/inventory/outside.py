"""Whether what [external] says can be looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ha_tasks.inventory import forms
from ha_tasks.inventory.schema_health import ExternalTable


def misfits(key: str, table: ExternalTable) -> Iterator[tuple[str, str, str, bool]]:
    """(key, problem, mending, warning); ``key`` is ``external.NAME``."""
    problem = _form(table)
    if problem is not None:
        yield f"{key}.target", *problem, False
    encrypted = table.kind == "tls" or table.target.startswith("https:")
    if table.tls is None:
        return
    if not encrypted:
        yield f"{key}.tls", "nothing is encrypted there", "take it out, or begin target with https://", False
    if (table.tls.certificate is None) != (table.tls.key is None):
        problem_of_pair = "certificate and key belong together, one is missing"
        yield f"{key}.tls", problem_of_pair, "write both, or none", False
    if not table.tls.verify:
        told = "the certificate is not looked at, so its end is not told"
        yield f"{key}.tls.verify", told, "take it out, and name the authority in ca", table.kind != "tls"


def _form(table: ExternalTable) -> tuple[str, str] | None:
    """(problem, mending) of a target that does not fit its kind."""
    try:
        match table.kind:
            case "http":
                forms.web_url(table.target)
            case "tcp" | "tls":
                forms.address(table.target)
            case "dns":
                forms.host_name(table.target)
    except ValueError as error:
        problem, mending = error.args
        return f"{problem} (kind {table.kind})", mending
    return None
