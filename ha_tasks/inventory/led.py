"""Whether what a service says about who leads it fits together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ha_tasks.inventory import forms
from ha_tasks.inventory.schema_services import PatroniTable, ServiceTable


def misfits(key: str, service: ServiceTable) -> Iterator[tuple[str, str, str, bool]]:
    """(key, problem, mending, warning); ``key`` is ``services.NAME``."""
    patroni = service.patroni
    if service.managed_by == "patroni":
        if service.kind != "postgres":
            mending = 'write managed_by = "ha_tasks" or "external"'
            yield f"{key}.managed_by", f"Patroni does not lead kind {service.kind}", mending, False
        elif patroni is None:
            mending = f'add [{key}.patroni] with api = ["http://...:8008"], a URL for each member'
            yield f"{key}.patroni", "is missing: Patroni is asked over its REST API", mending, False
    yield from _sentinel(key, service)
    if patroni is None:
        return
    if service.managed_by != "patroni":
        mending = f'take it out, or write managed_by = "patroni" (now: "{service.managed_by}")'
        yield f"{key}.patroni", "is for a cluster that Patroni leads", mending, False
    yield from _login(f"{key}.patroni", patroni)
    yield from _encrypted(f"{key}.patroni", patroni)


def _sentinel(key: str, service: ServiceTable) -> Iterator[tuple[str, str, str, bool]]:
    led = service.managed_by == "sentinel"
    if led and service.kind != "redis":
        mending = 'write managed_by = "ha_tasks", "patroni" or "external"'
        yield f"{key}.managed_by", f"Sentinel does not lead kind {service.kind}", mending, False
    elif led and service.sentinel is None:
        mending = f'add [{key}.sentinel] with addresses = ["...:26379"] and name'
        yield f"{key}.sentinel", "is missing: the Sentinels are asked who leads", mending, False
    if service.sentinel is not None and not led:
        mending = f'take it out, or write managed_by = "sentinel" (now: "{service.managed_by}")'
        yield f"{key}.sentinel", "is for a service that Sentinel leads", mending, False


def _login(key: str, patroni: PatroniTable) -> Iterator[tuple[str, str, str, bool]]:
    if (patroni.user is None) != (patroni.password is None):
        yield key, "user and password belong together, one is missing", "write both, or none", False


def _encrypted(key: str, patroni: PatroniTable) -> Iterator[tuple[str, str, str, bool]]:
    clear = sorted({forms.host_of(url) for url in patroni.api if url.startswith("http:")})
    far = [host for host in clear if not forms.is_loopback(host)]
    if far and patroni.password is not None:
        problem = f"the password travels in clear to {', '.join(far)}"
        yield f"{key}.api", problem, f"use https there (restapi.certfile), and [{key}.tls]", True
    if patroni.tls is None:
        return
    if not any(url.startswith("https:") for url in patroni.api):
        yield f"{key}.tls", "no URL of api is https", "begin them with https://, or take it out", False
    if (patroni.tls.certificate is None) != (patroni.tls.key is None):
        problem = "certificate and key belong together, one is missing"
        yield f"{key}.tls", problem, "write both, or none", False
    if not patroni.tls.verify:
        problem = "whoever answers is trusted, and gets the password"
        yield f"{key}.tls.verify", problem, "take it out, and name the authority in ca", True
