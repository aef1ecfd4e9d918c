"""``acme.cdn_mode``: sets the mode of a zone in Acme's CDN, like `shield` while its origin recovers.

The CDN's API has a resource for each zone: ``GET /zones/www`` answers ``{"mode": "pass"}``, ``PUT`` sets it.
It keeps the highest ``X-Fence`` that it has seen of a zone and refuses a lower one with 409.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from ha_tasks.errors import ActionFailed, PassingFailure, StaleAuthority, VerificationFailed
from ha_tasks.model.action import Takes
from ha_tasks.model.plain import Json
from ha_tasks.ports.action import ActionTools, Change, Difference, StepContext
from ha_tasks.workflows.actions.base import PlainAction

LONGEST_CALL_S = 5.0


def cdn_mode(tools: ActionTools) -> CdnMode:
    """The entry point: called once in each process. It should not connect anywhere yet."""
    return CdnMode(tools)


class CdnMode(PlainAction):
    """Sets the mode of a CDN zone. Fenced: the CDN refuses a lower fence than it has seen."""

    takes = Takes(needed=("zone", "mode"))

    def __init__(self, tools: ActionTools) -> None:
        self._tools = tools

    def plan(self, ctx: StepContext) -> Difference:
        """The zone's mode, now and then."""
        change = Change(what=f"cdn zone {ctx.args['zone']}", before=self._mode(ctx), after=ctx.args["mode"])
        return Difference(text=f"sets the mode of {ctx.args['zone']}", changes=(change,))

    def capture(self, ctx: StepContext) -> Json:
        """The mode that undo brings back. It is in the journal before anything is changed."""
        return {"mode": self._mode(ctx)}

    def check(self, ctx: StepContext) -> Json | None:
        """Asks the CDN: after an executor's death this decides whether the effect happened."""
        return self._output(ctx) if self._mode(ctx) == ctx.args["mode"] else None

    def do(self, ctx: StepContext) -> Json:
        """Idempotent: a mode is set, not toggled."""
        self._set(ctx, ctx.args["mode"])
        return self._output(ctx)

    def verify(self, ctx: StepContext) -> None:
        """The CDN says so itself."""
        found = self._mode(ctx)
        if found != ctx.args["mode"]:
            raise VerificationFailed(f"zone {ctx.args['zone']} is in mode {found}, not {ctx.args['mode']}")

    def undo(self, ctx: StepContext) -> None:
        """Back to what was captured. Also when ``do`` never began, or broke off: it sets, whatever is."""
        if "mode" in ctx.captured:
            self._set(ctx, ctx.captured["mode"])

    @staticmethod
    def _output(ctx: StepContext) -> Json:
        return {"zone": ctx.args["zone"], "mode": ctx.args["mode"]}

    def _mode(self, ctx: StepContext) -> str:
        return str(self._call(ctx, "GET")["mode"])

    def _set(self, ctx: StepContext, mode: str) -> None:
        self._call(ctx, "PUT", {"mode": mode})

    def _call(self, ctx: StepContext, method: str, body: Json | None = None) -> Json:
        """One call of the API. What passes by itself is raised as a retryable error, the rest as final."""
        request = urllib.request.Request(  # noqa: S310 - the inventory says where to
            f"{self._tools.settings['url']}/zones/{ctx.args['zone']}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._tools.secret('token')}", "X-Fence": str(ctx.fence)},
        )
        deadline_s = max(0.1, min(LONGEST_CALL_S, ctx.remaining_s()))
        try:
            with urllib.request.urlopen(request, timeout=deadline_s) as answer:  # noqa: S310 - as above
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code) from None
        except OSError as error:
            raise PassingFailure(f"the CDN does not answer: {error}") from None


def _refused(status: int) -> Exception:
    if status == 409:
        return StaleAuthority("the CDN has seen a higher fence")
    if status >= 500:
        return PassingFailure(f"the CDN answered {status}")
    return ActionFailed(f"the CDN refused it: {status}")
