"""What is known of an action without running it: its arguments, whether it can be undone, who offers it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ha_tasks.model.fault import Fault
from ha_tasks.model.platform import ServiceKind

OWN_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
"""One's own actions have a dot in their name, ours never do: no release of ours can take a name of yours."""
LONGEST_NAME = 60


def is_own_name(word: str) -> bool:
    """True for a name that one's own action may have, like ``acme.cdn_mode``."""
    return OWN_NAME.fullmatch(word) is not None and len(word) <= LONGEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """Which arguments an action is given by its step. ``anything``: it has not said so."""

    needed: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    anything: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """An action as ``playbook lint`` and plans see it.

    ``undoes``: it can take its effect back. ``limit_s``: seconds after which its task is ended whatever the
    playbook says. ``kinds``: of services that it works on; empty: of all. ``provider``: the package that
    brings it, with its version; empty: ours. ``missing``: why it cannot be used here; empty: it can.
    """

    takes: Takes = field(default_factory=lambda: Takes(anything=True))
    undoes: bool = True
    limit_s: float = 60.0
    kinds: tuple[ServiceKind, ...] = ()
    provider: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an installed package offers: an action, or a ``what`` of another kind. ``provider``: the package
    and its version.
    """

    name: str
    provider: str
    target: str
    what: str = "action"


def sifted(offers: Iterable[Offer]) -> tuple[tuple[Offer, ...], tuple[Fault, ...]]:
    """The offers that can be taken, and what is wrong with the others. Pure.

    A name that two packages offer is taken from neither: which of them recovers must not be chance.
    """
    every = sorted(offers, key=lambda offer: (offer.name, offer.provider))
    times = Counter(offer.name for offer in every)
    faults = {offer: fault for offer in every if (fault := _fault(offer, times, every)) is not None}
    return tuple(offer for offer in every if offer not in faults), tuple(faults.values())


def _fault(offer: Offer, times: Counter[str], every: Sequence[Offer]) -> Fault | None:
    if not is_own_name(offer.name):
        return unusable(
            offer,
            f"is no name for {'an' if offer.what == 'action' else 'a'} {offer.what} of one's own",
            f"write it like acme.cdn_mode: small letters, digits, _, a dot, {LONGEST_NAME} at most",
        )
    if times[offer.name] > 1:
        others = [o.provider for o in every if o.name == offer.name and o is not offer]
        return unusable(offer, f"is offered by {', '.join(others)} too", "uninstall all but one of them")
    return None


def unusable(offer: Offer, problem: str, mending: str) -> Fault:
    """The fault of an offer, laid at the door of the package that makes it."""
    return Fault(file=offer.provider, key=f"{offer.what} {offer.name}", problem=problem, mending=mending)
