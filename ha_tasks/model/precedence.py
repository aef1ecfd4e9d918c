"""Whom a cluster would rather have as its primary, of standbys that have the same data. Pure.

It decides only among equals: who has more of the WAL is promoted, whatever is preferred, because the other
one may lack what was acknowledged.
"""

from __future__ import annotations

from ha_tasks.model.platform import Instance, Service


def ranks(service: Service, primary: str) -> tuple[str, ...]:
    """Names of the nodes, the preferred first, when ``primary`` has to be replaced.

    Synchronous ones before asynchronous ones, then the higher priority, then who stands at the site of the
    old primary, then by name. A primary that the inventory does not know stands at no site.
    """
    site = next((i.site for i in service.instances if i.name == primary), "")

    def place(instance: Instance) -> tuple[bool, int, bool, str]:
        elsewhere = not site or instance.site != site
        return (not instance.synchronous, -instance.priority, elsewhere, instance.name)

    return tuple(i.name for i in sorted(service.instances, key=place))
