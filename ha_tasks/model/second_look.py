"""Who is looked at again soon, before its next turn: whose probe has just failed.

HAProxy's ``fastinter`` has the same purpose: rare probes are cheap while all is well, and as good as frequent
ones from the first failure on. How many more looks there are does not depend on what they find, so that they
say no less about a share of failures than any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ha_tasks.model.platform import Service, ServiceKind
from ha_tasks.model.probe import ProbeOutcome

AGAIN_S = 0.5
"""Between two of these looks: the last of three is known when silence has lasted for 1.5 s."""
TIMES = 3


def looked_at_again(services: Sequence[Service], outcomes: Iterable[ProbeOutcome]) -> list[Service]:
    """Services of which some instance has just failed. Nodes of a cluster are judged by their last so many
    probes, which are all of their usual turns.
    """
    failed = {o.target.service for o in outcomes if not o.ok}
    return [s for s in services if s.name in failed and s.kind is not ServiceKind.POSTGRES]


def moments_s(interval_s: float) -> list[float]:
    """When, in seconds after a failed look; none of them delays the next turn."""
    return [AGAIN_S * n for n in range(1, TIMES + 1) if AGAIN_S * (n + 1) <= interval_s]
