"""The shape of a playbook file: every key, its type, its default and what it is for.

Strict: an unknown key is an error. The reference page is made from these classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from ha_tasks.model.action import is_own_name
from ha_tasks.model.fault import closest
from ha_tasks.model.incident import TOLD, IncidentKind
from ha_tasks.model.platform import ServiceKind
from ha_tasks.names import ActionName, RecoveryType


class OneOf:
    """Makes a text one of a closed list of words, with the nearest one as the remedy."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(str(word) for word in words)
        self.schema = {"type": "string", "enum": list(self.words)}

    def __call__(self, value: str) -> str:
        """The value; ``ValueError(problem, mending)`` when it is not on the list."""
        if value not in self.words:
            raise ValueError(f'"{value}" is not known here', closest(value, self.words))
        return value


_INCIDENTS, _KINDS, _TYPES = (
    OneOf(kind for kind in IncidentKind if kind not in TOLD),
    OneOf(ServiceKind),
    OneOf(RecoveryType),
)
# Verification is the end of every run; a playbook only sets its gates.
SHIPPED_ACTIONS = OneOf(action for action in ActionName if action is not ActionName.VERIFY_SERVICE)


def known_action(value: str) -> str:
    """One of ours, or a name that one's own may have: whether that is installed here is judged later.

    A package that is missing on one machine must not make every other playbook unreadable there.
    """
    return value if is_own_name(value) else SHIPPED_ACTIONS(value)


IncidentWord = Annotated[str, AfterValidator(_INCIDENTS), WithJsonSchema(_INCIDENTS.schema)]
KindWord = Annotated[str, AfterValidator(_KINDS), WithJsonSchema(_KINDS.schema)]
TypeWord = Annotated[str, AfterValidator(_TYPES), WithJsonSchema(_TYPES.schema)]
ActionWord = Annotated[str, AfterValidator(known_action), WithJsonSchema(SHIPPED_ACTIONS.schema)]

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class MatchTable(Table):
    """Which incidents it is for. The most specific playbook wins, then the higher priority."""

    incident: IncidentWord = Field(description="Kind of incident.")
    kind: KindWord | None = Field(default=None, description="Kind of service; left out: every kind.")
    service: str | None = Field(default=None, description="Name of one service; left out: every service.")
    changed: bool = Field(
        default=False,
        description="Only where a file of the service on the host of the incident's instance is not as the "
        "last version that is known to be good says.",
    )


class GuardsTable(Table):
    """Limits of this playbook; the platform's own ([policies]) hold besides."""

    cooldown_s: float = Field(
        default=600.0, ge=0, description="Seconds after a success in which it does not run again by itself."
    )
    min_healthy: int = Field(
        default=1, ge=0, description="Other instances of the service that must be healthy."
    )
    max_targets: int = Field(default=1, ge=1, description="Instances that one run may be about.")
    max_share: float = Field(
        default=0.34, gt=0, le=1, description="Share of the service that may be out at a time; always one."
    )
    approval: Literal["never", "always"] = Field(
        default="never", description="`always`: a run waits for `ha-tasks approve` before it begins."
    )


class StepTable(Table):
    """One step; in the order of the file as far as `needs` allows."""

    action: ActionWord = Field(description="What is done: one of the actions below, or one's own.")
    id: Identifier | None = Field(default=None, description="Name of the step; left out: the action's.")
    needs: list[str] = Field(default_factory=list, description="Ids of steps that must be done before.")
    args: dict[str, str] = Field(
        default_factory=dict, description="What the action is given; `${incident.instance}` and so on."
    )
    undo: Literal["run", "keep"] = Field(
        default="run", description="On the way back: `run` its undo, or `keep` its effect on purpose."
    )
    timeout_s: Seconds = Field(default=15.0, description="Seconds for one attempt.")
    attempts: int = Field(default=2, ge=1, le=20, description="Attempts, when a failure can pass by itself.")
    point_of_no_return: bool = Field(
        default=False, description="Once it has begun nothing is undone any more: a person is called."
    )


class VerifyTable(Table):
    """The gates behind the last step: health always, data on demand, performance always."""

    within_s: Seconds = Field(default=20.0, description="Seconds in which the health gate must be passed.")
    good_probes: int = Field(default=3, ge=1, description="Good requests in a row through the balancer.")
    data: bool = Field(default=False, description="Whether the data gate is asked too (kind postgres).")
    max_latency_ratio: float = Field(
        default=10.0, gt=1, description="Median latency at most this multiple of the baseline (or 50 ms)."
    )


class FailbackTable(Table):
    """The way back to what was before."""

    automatic: Literal[False] = Field(
        default=False, description="Always false: going back is a switchover that a person decides."
    )


class PlaybookFile(Table):
    """A playbook: which failure it is for, and the steps that mend it."""

    schema_: Literal[1] = Field(alias="schema", description="Version of this format: 1.")
    name: Identifier = Field(description="Its name, which is the file's name too (without .toml).")
    version: int = Field(ge=1, description="Grows with every change; plans and reports keep it.")
    summary: str = Field(min_length=1, description="What it does, in one line.")
    recovery_type: TypeWord = Field(description="Label of `recovery_time_seconds`.")
    mitigates: bool = Field(
        default=False, description="Its success leaves the incident MITIGATED: redundancy is not back yet."
    )
    priority: int = Field(default=0, description="Decides between equally specific playbooks; higher wins.")
    match: MatchTable = Field(description="Which incidents it is for.")
    guards: GuardsTable = Field(default_factory=GuardsTable, description="Limits of this playbook.")
    step: list[StepTable] = Field(min_length=1, description="The steps.")
    verify: VerifyTable = Field(default_factory=VerifyTable, description="The gates behind the last step.")
    failback: FailbackTable = Field(default_factory=FailbackTable, description="The way back.")
