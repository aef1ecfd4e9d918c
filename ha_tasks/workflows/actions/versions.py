"""Having a service served from another version of its files: host by host, proved, or back by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ha_tasks.errors import DeadlineExceeded, ServiceUnreachable, VerificationFailed
from ha_tasks.model.action import Takes
from ha_tasks.model.plain import Json
from ha_tasks.model.platform import Role, Service, ServiceKind, VersionedFile
from ha_tasks.model.probe import ProbeOutcome
from ha_tasks.model.versions import SHORT, Judgement, Version
from ha_tasks.ports.action import Change, Difference, StepContext
from ha_tasks.ports.clock import Clock
from ha_tasks.recovery.rollback_controller import RollbackController
from ha_tasks.workflows.actions.base import PlainAction
from ha_tasks.workflows.actions.verify import Path
from ha_tasks.workflows.waiting import wait_until

LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTools:
    """What it drives. ``look`` probes every instance of services; ``paths``: how users come to each kind."""

    rollback: RollbackController
    look: Callable[[Sequence[Service]], Sequence[ProbeOutcome]]
    paths: Mapping[ServiceKind, Path]
    clock: Clock


class ApplyVersion(PlainAction):
    """Has the service served from a version. Fenced at each host; idempotent, so it has no ``check``: that
    every file is in place does not say that users are served, which is proved anew after a death.

    The next host follows when the instances of the one before answer, so that a bad version does not get
    to all of them; then users are asked for through the balancer. Whatever fails, every file gets back what
    it held, which was kept before.
    """

    takes = Takes(needed=("version",))

    def __init__(self, tools: VersionTools) -> None:
        self._tools = tools

    def plan(self, ctx: StepContext) -> Difference:
        """The digest of each file that would hold another content."""
        version, before = self._version(ctx), ctx.captured["before"]
        changes = tuple(
            Change(what=key, before=_short(before[key]), after=_short(version.files[key])) for key in before
        )
        text = f"{version.word} of {version.recorded_at:%Y-%m-%d %H:%M} by {version.actor}"
        nothing = "" if changes else ", which is there already: it is only verified"
        return Difference(text=f"{text}{nothing}", changes=changes)

    def capture(self, ctx: StepContext) -> Json:
        """The version, and what each file holds that it would change: its host keeps that from now on."""
        rollback = self._tools.rollback
        version = rollback.target(ctx.service, ctx.args["version"])
        differing = rollback.differing(ctx.service, version)
        return {
            "version": version.no,
            "before": {file.key: None if old is None else rollback.keep(file) for file, old in differing},
        }

    def do(self, ctx: StepContext) -> Json:
        """VerificationFailed when it does not serve."""
        version, before = self._version(ctx), ctx.captured["before"]
        mine = [file for file in ctx.service.files if file.key in before]
        for host, files in groupby(sorted(mine, key=_in_turn(ctx.service)), key=lambda file: file.host):
            for file in files:
                self._tools.rollback.put(file, version.files[file.key], ctx)
            self._await_host(ctx, version, host)
        self._await_users(ctx, version)
        why = f"run {ctx.run} had it serve"
        self._tools.rollback.judge(version, Judgement.GOOD, why, under=ctx.warrant)
        return {"version": version.word, "files": sorted(before)}

    def verify(self, ctx: StepContext) -> None:
        """Nobody has exchanged a file once more meanwhile."""
        version = self._version(ctx)
        if others := self._tools.rollback.differing(ctx.service, version):
            keys = ", ".join(file.key for file, _ in others)
            raise VerificationFailed(f"{keys}: somebody else has exchanged what {version.word} says")

    def undo(self, ctx: StepContext) -> None:
        """Every file that was touched holds again what it held. A file that was not there before stays."""
        if not ctx.captured:
            return
        version, before = self._version(ctx), ctx.captured["before"]
        states = self._tools.rollback.states(ctx.service)
        held = [key for key in before if key in states and states[key].digest == version.files[key]]
        if held:
            why = f"run {ctx.run} took it back"
            self._tools.rollback.judge(version, Judgement.BAD, why, under=ctx.warrant)
        for file in ctx.service.files:
            old, state = before.get(file.key), states.get(file.key)
            if old is not None and (state is None or state.digest != old or state.untold):
                self._tools.rollback.put(file, old, ctx)

    def _version(self, ctx: StepContext) -> Version:
        return self._tools.rollback.target(ctx.service, f"v{ctx.captured['version']}")

    def _await_host(self, ctx: StepContext, version: Version, host: str) -> None:
        names = {i.name for i in ctx.service.instances if i.host == host and i.role is not Role.SPARE}

        def answer() -> bool:
            outcomes = self._tools.look([ctx.service])
            return all(o.ok for o in outcomes if o.target.instance in names)

        self._wait(ctx, answer, f"{', '.join(sorted(names))} on {host} with {version.word}")

    def _await_users(self, ctx: StepContext, version: Version) -> None:
        """As many good requests in a row as the playbook's gate wants; nothing without a balancer."""
        if ctx.service.routing is None:
            return
        path, good = self._tools.paths[ctx.service.kind], [0]

        def served() -> bool:
            try:
                path.try_once(ctx.service, f"{ctx.key}-{good[0]}")
            except ServiceUnreachable:
                good[0] = 0
                return False
            good[0] += 1
            return good[0] >= ctx.verify.good_probes

        self._wait(ctx, served, f"users through the balancer with {version.word}")

    def _wait(self, ctx: StepContext, holds: Callable[[], bool], who: str) -> None:
        within_s = min(ctx.verify.within_s, ctx.remaining_s())
        try:
            wait_until(
                holds,
                clock=self._tools.clock,
                within_s=within_s,
                what=f"no good answer for {who}",
                every_s=LOOK_EVERY_S,
            )
        except DeadlineExceeded as error:
            raise VerificationFailed(str(error)) from error


def _in_turn(service: Service) -> Callable[[VersionedFile], int]:
    """Hosts in the order in which the inventory first names them, so that all of one host come together."""
    hosts = list(dict.fromkeys(file.host for file in service.files))
    return lambda file: hosts.index(file.host)


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:SHORT]
