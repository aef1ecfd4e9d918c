"""RollbackController: undoes done steps of runs; knows the versions of what services are served from, and the
way back to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ha_tasks.errors import ActionFailed, HaTasksError, UsageError
from ha_tasks.model.platform import Service, VersionedFile
from ha_tasks.model.run import Outcome
from ha_tasks.model.versions import Judgement, Present, Version, changed, last_good, number_of, way_back
from ha_tasks.ports.action import Action, StepContext
from ha_tasks.ports.clock import Clock
from ha_tasks.ports.host import FileAgent
from ha_tasks.ports.repositories import Warrant
from ha_tasks.ports.versions import Versions

GOOD = "good"
"""In the place of a version: the one that is known to be good since last."""
GLANCE_S = 0.5
ASKED_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """What its agent says of a file: digests of what is there, and of what waits beside it."""

    digest: str | None
    staged: str | None
    untold: bool
    """After an exchange that ended before whoever reads the file was told of it."""


class RollbackController:
    """Contents stay with the agents of the hosts and are known here by their digests alone."""

    def __init__(self, *, versions: Versions, agents: FileAgent, clock: Clock, actor: str) -> None:
        self._versions = versions
        self._agents = agents
        self._clock = clock
        self._actor = actor

    @staticmethod
    def undo(action: Action, ctx: StepContext) -> Outcome:
        """Takes a step's effect back by what was captured before it. Idempotent, as ``Action.undo`` is.

        Which step comes next is a rule of the model.
        """
        try:
            action.undo(ctx)
        except HaTasksError as error:
            return Outcome(ok=False, error=str(error), passing=error.retryable)
        return Outcome(ok=True)

    def states(self, service: Service, *, timeout_s: float = ASKED_S) -> Mapping[str, FileState]:
        """Every file of which its agent tells, all asked side by side. Reads only."""
        answers = self._asked(service.files, timeout_s)
        return {key: answer for key, answer in answers.items() if isinstance(answer, FileState)}

    def troubles(self, service: Service) -> Mapping[str, str]:
        """File -> why its agent does not tell of it: it is silent, or does not know it."""
        answers = self._asked(service.files, ASKED_S)
        return {key: str(answer) for key, answer in answers.items() if isinstance(answer, HaTasksError)}

    def present(self, service: Service, *, timeout_s: float = ASKED_S) -> Present:
        """What each file holds now, of those of which their agents tell."""
        return {key: state.digest for key, state in self.states(service, timeout_s=timeout_s).items()}

    def is_changed(self, service: Service, instance: str) -> bool:
        """True when a file on the host of that instance is not as the last good version says.

        An agent that is silent, or knows no such file, is no reason to take anything back, and none to
        begin nothing else. Nor is a version of other files than the service has now. Asks for half a second.
        """
        hosts = {each.host for each in service.instances if each.name == instance}
        files = [file.key for file in service.files if file.host in hosts]
        good = last_good(self._versions.of(service.name)) if files else None
        if good is None or good.files.keys() != {file.key for file in service.files}:
            return False
        return bool(changed(good, self.present(service, timeout_s=GLANCE_S), files))

    def target(self, service: Service, word: str) -> Version:
        """The version that is meant by ``v7``, ``7`` or ``good``. UsageError when there is none."""
        if word == GOOD:
            good = last_good(self._versions.of(service.name))
            if good is None:
                raise UsageError(f"no version of {service.name} is known to be good")
            return good
        try:
            return self._versions.get(service.name, number_of(word))
        except KeyError as error:
            raise UsageError(
                f"{service.name} has no version {word}; see: ha-tasks versions {service.name}"
            ) from error

    def way_back(self, service: Service) -> Version:
        """The version that a rollback leads to where nobody names one. UsageError when there is none."""
        found = way_back(self._versions.of(service.name), self.present(service))
        if found is None:
            raise UsageError(
                f"there is no good version of {service.name} to go back to; "
                f"name one: ha-tasks rollback {service.name} --to VERSION"
            )
        return found

    def record(self, service: Service, *, staged: bool, actor: str, reason: str) -> Version:
        """Keeps on every host what is there, or what waits where something does, as a version. Idempotent.

        UsageError where there is nothing to record; AgentUnreachable when one of the agents is silent.
        """
        if not service.files:
            raise UsageError(
                f"{service.name} has no files; name what it is served from: [[services.{service.name}.files]]"
            )
        states = self._all_states(service)
        waits = {key for key, state in states.items() if staged and state.staged is not None}
        if staged and not waits:
            raise UsageError(
                f"nothing waits beside the files of {service.name}; put it to their staged place"
            )
        files = {file.key: self.keep(file, staged=file.key in waits) for file in service.files}
        now = self._clock.now()
        return self._versions.record(service.name, files, actor=actor, reason=reason, now=now)

    def keep(self, file: VersionedFile, *, staged: bool = False) -> str:
        """Has the host keep what the file holds; its digest. Idempotent."""
        return str(self._agents.keep_file(file.host, file.name, staged=staged)["digest"])

    def put(self, file: VersionedFile, digest: str, ctx: StepContext) -> None:
        """Has the file hold a kept content, and whoever reads it told. Fenced, idempotent."""
        self._agents.put_file(
            file.host, file.name, digest, ctx.key, fence=ctx.fence, timeout_s=max(1.0, ctx.remaining_s())
        )

    def differing(self, service: Service, version: Version) -> Sequence[tuple[VersionedFile, str | None]]:
        """Files that hold something else than the version says, or that nobody was told of; what they hold.

        AgentUnreachable: not all agents answer.

        ActionFailed when the version is of other files than the service has now.
        """
        states = self._all_states(service)
        unknown = sorted(version.files.keys() ^ {file.key for file in service.files})
        if unknown:
            raise ActionFailed(
                f"{version.word} of {service.name} was recorded with other files ({', '.join(unknown)}); "
                f"record what is there now: ha-tasks versions {service.name} --record"
            )
        return [
            (file, states[file.key].digest)
            for file in service.files
            if states[file.key].digest != version.files[file.key] or states[file.key].untold
        ]

    def judge(
        self, version: Version, judgement: Judgement, why: str, *, under: Warrant | None = None
    ) -> Version:
        """Writes down whether users are served well by it. Idempotent. Raises StaleFence."""
        return self._versions.judge(
            version.service,
            version.no,
            judgement,
            why,
            self._clock.now(),
            actor=self._actor,
            under=under,
        )

    def _all_states(self, service: Service) -> Mapping[str, FileState]:
        """As ``states``; what kept an agent from telling is raised, so it is told."""
        states: dict[str, FileState] = {}
        for key, answer in self._asked(service.files, ASKED_S).items():
            if isinstance(answer, HaTasksError):
                raise answer
            states[key] = answer
        return states

    def _asked(
        self, files: Sequence[VersionedFile], timeout_s: float
    ) -> Mapping[str, FileState | HaTasksError]:
        def ask(file: VersionedFile) -> FileState | HaTasksError:
            try:
                answer = self._agents.file_status(file.host, file.name, timeout_s=timeout_s)
            except HaTasksError as error:  # which is an answer here
                return error
            return FileState(**{name: answer[name] for name in ("digest", "staged", "untold")})

        with ThreadPoolExecutor(max_workers=max(1, len(files)), thread_name_prefix="files") as pool:
            return dict(zip((file.key for file in files), pool.map(ask, files), strict=True))
