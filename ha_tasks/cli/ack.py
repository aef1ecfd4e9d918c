"""``ha-tasks ack``: a person has seen it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import click

from ha_tasks.cli.lines import GOOD, Line, state
from ha_tasks.cli.session import Records, Session, pass_session, person, with_home, with_json
from ha_tasks.errors import UsageError
from ha_tasks.model.fault import closest
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Platform
from ha_tasks.workflows.putting_back import put_back

_INCIDENT = re.compile(r"^I-?(\d{1,18})$", re.IGNORECASE)


@click.command("ack")
@click.argument("what", metavar="SCOPE|I-<n>")
@with_home
@with_json
@pass_session
def command(session: Session, what: str) -> None:
    """I-7: incident 7 was seen and is mended; an escalated one becomes RESOLVED. SCOPE (a service): its
    cool-downs end, so that a recovery may run again at once.

    Both: instances of the service that a failed recovery left out of the balancer and that are healthy
    now are put back.
    """
    system = session.system()
    session.result(acknowledge(what, system.platform, system.store, system.clock.now(), person()), lines)


def acknowledge(what: str, platform: Platform, store: Records, now: datetime, actor: str) -> Json:
    """What was acknowledged; UsageError for an incident or a service that does not exist."""
    numbered = _INCIDENT.match(what)
    if numbered:
        try:
            incident = store.incidents.acknowledge(int(numbered.group(1)), now, actor)
        except KeyError:
            raise UsageError(f"there is no incident {what}; see: ha-tasks incidents") from None
        return {
            "incident": incident.id,
            "state": str(incident.state),
            "cooldowns": [],
            "put_back": _put_back(incident.service, platform, store, now, actor),
        }
    if what not in platform.services:
        raise UsageError(f'"{what}" is neither a service nor I-<n>; {closest(what, platform.services)}')
    ended = store.limits.acknowledge(what, now, actor)
    back = _put_back(what, platform, store, now, actor)
    return {"incident": None, "scope": what, "cooldowns": list(ended), "put_back": back}


def _put_back(service: str, platform: Platform, store: Records, now: datetime, actor: str) -> list[str]:
    """An incident may be about a service that the inventory does not have any more."""
    known = platform.services.get(service)
    return [] if known is None else list(put_back(known, store, now, actor))


def lines(content: Json) -> Iterator[Line]:
    """What it came to."""
    if content["incident"] is not None:
        yield [f"I-{content['incident']} is ", state(content["state"])]
        if content["state"] not in ("resolved", "escalated"):
            yield ["it is being worked on; only an escalated incident needs you"]
    elif content["cooldowns"]:
        yield [("ended", GOOD), f" on {content['scope']}: cool-down of {', '.join(content['cooldowns'])}"]
    else:
        yield [f"{content['scope']} had no cool-down"]
    if content["put_back"]:
        yield [("put back into the balancer", GOOD), f": {', '.join(content['put_back'])}"]
