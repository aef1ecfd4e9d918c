"""What [store.tls] and [broker.tls] say: whether it fits, and what it adds to the URLs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ha_tasks.inventory import forms
from ha_tasks.inventory.schema import InventoryFile
from ha_tasks.inventory.schema_base import TlsTable
from ha_tasks.inventory.secret import closed_file_problem, open_file_problem
from ha_tasks.model.tls import SECURE_BROKERS, Tls

_CANNOT = {
    "store": "take it out: sqlite is a file",
    "broker": "begin broker.url with rediss:// or amqps://",
}


def misfits(file: InventoryFile) -> Iterator[tuple[str, str, str, bool]]:
    """(key, problem, mending, warning): TLS that cannot be, and what travels in clear to other machines."""
    for section, url, table, can in _sections(file):
        if table is None:
            yield from _in_clear(section, url, can=can)
            continue
        if not can:
            yield f"{section}.tls", "this URL cannot be encrypted", _CANNOT[section], False
        if (table.certificate is None) != (table.key is None):
            problem = "certificate and key belong together, one is missing"
            yield f"{section}.tls", problem, "write both, or none", False
        if not table.verify:
            problem = "whoever answers is trusted, so nobody is kept out"
            yield f"{section}.tls.verify", problem, "take it out, and name the authority in ca", True


def _sections(file: InventoryFile) -> Iterator[tuple[str, str, TlsTable | None, bool]]:
    """(section, URL, its table, whether that URL can be encrypted)."""
    yield "store", file.store.url, file.store.tls, file.store.url.startswith(forms.POSTGRESQL)
    yield "broker", file.broker.urls[0], file.broker.tls, file.broker.urls[0].startswith(SECURE_BROKERS)


def _in_clear(section: str, url: str, *, can: bool) -> Iterator[tuple[str, str, str, bool]]:
    host = forms.host_of(url)
    encrypted = section == "broker" and can
    if encrypted or url.startswith(forms.SQLITE) or forms.is_loopback(host):
        return
    mending = f"add [{section}.tls]" if can else f"use rediss:// or amqps://, and [{section}.tls]"
    yield f"{section}.url", f"nothing protects what is sent to {host}", mending, True


def file_problems(file: InventoryFile, directory: Path) -> Iterator[tuple[str, str, str]]:
    """(key, problem, mending) of files that are missing, and of a key that others may read."""
    tables = {section: table for section, _, table, _ in _sections(file)}
    tables |= {f"services.{n}.patroni": s.patroni.tls for n, s in file.services.items() if s.patroni}
    tables |= {f"external.{name}": each.tls for name, each in file.external.items()}
    for section, table in tables.items():
        if table is None:
            continue
        ours, theirs = "our certificate", "the authority's certificate"
        problems = {
            "ca": table.ca and open_file_problem(directory / table.ca, theirs),
            "certificate": table.certificate and open_file_problem(directory / table.certificate, ours),
            "key": table.key and closed_file_problem(directory / table.key),
        }
        for name, wrong in problems.items():
            if wrong:
                yield f"{section}.tls.{name}", wrong[0], wrong[1]


def broker_query(file: InventoryFile, directory: Path) -> Mapping[str, str]:
    """What is added to the broker's URL. A ``rediss`` one is verified without a table, too."""
    if not file.broker.urls[0].startswith(SECURE_BROKERS):
        return {}
    return settings_of(file.broker.tls, directory).broker_query()


def store_query(file: InventoryFile, directory: Path) -> Mapping[str, str]:
    """What is added to the store's URL; nothing without a table."""
    return {} if file.store.tls is None else settings_of(file.store.tls, directory).store_query()


def settings_of(table: TlsTable | None, directory: Path) -> Tls:
    """With absolute paths; without a table everything is verified by the machine's authorities."""
    table = table or TlsTable()

    def whole(part: str | None) -> str | None:
        return None if part is None else str(directory / part)

    return Tls(
        ca=whole(table.ca),
        certificate=whole(table.certificate),
        key=whole(table.key),
        verify=table.verify,
    )
