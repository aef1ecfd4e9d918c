"""Alert rules about the automation itself, one table: what must not be forgotten, what waits for a person.

``python -m ha_tasks.monitoring.alert_rules`` writes ``dashboards/rules/automation.yml`` anew, the file that
Prometheus loads (``rule_files``); a test says when it is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[2] / "dashboards" / "rules" / "automation.yml"
RUNBOOKS = "docs/runbooks"
FORGOTTEN_AFTER_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One alert. ``for_s``: how long ``expr`` must hold; ``runbook``: the page's name without ``.md``."""

    name: str
    expr: str
    for_s: int
    severity: str
    summary: str
    description: str
    runbook: str


RULES: tuple[AlertRule, ...] = (
    AlertRule(
        name="AutomationDisabled",
        expr="ha_automation_disabled == 1 and on (scope, mode) "
        f"(time() - ha_automation_disabled_since_timestamp_seconds >= {FORGOTTEN_AFTER_S})",
        for_s=0,
        severity="warning",
        summary="Automation is {{ $labels.mode }} for {{ $labels.scope }} for over an hour",
        description="Nothing is recovered there by itself. See who, since when and why: ha-tasks switch. "
        "The way back: ha-tasks switch on.",
        runbook="automation-disabled",
    ),
    AlertRule(
        name="ApprovalWaiting",
        expr="ha_approvals_waiting > 0",
        for_s=0,
        severity="critical",
        summary="{{ $value }} recoveries ({{ $labels.recovery_type }}) wait for a person",
        description="Nothing is done about the failure until somebody says yes or no: ha-tasks status.",
        runbook="approval-waiting",
    ),
    AlertRule(
        name="PoisonMessages",
        expr="sum(increase(ha_poison_messages_total[10m])) > 0"
        ' or delta(ha_celery_queue_length{queue="ha.dead"}[10m]) > 0',
        for_s=0,
        severity="warning",
        summary="Messages were put aside that no worker can take",
        description="The work goes on. Why, when and from where: ha-tasks broker dead.",
        runbook="poison-messages",
    ),
    AlertRule(
        name="StoreDown",
        expr="ha_store_up == 0",
        for_s=10,
        severity="critical",
        summary="The state store does not answer",
        description="The services go on; nothing that fails is recovered until it is back.",
        runbook="store-down",
    ),
    AlertRule(
        name="StoreNotTrusted",
        expr="ha_store_trusted == 0",
        for_s=0,
        severity="critical",
        summary="Nothing acts by the state store: others remember more than it does",
        description="It was restored, failed over, exchanged or lost. Why, and the way out: ha-tasks status.",
        runbook="store-not-trusted",
    ),
)


def rule_file(rules: tuple[AlertRule, ...] = RULES) -> str:
    """The rules as Prometheus reads them."""
    lines = [
        "# Made by python -m ha_tasks.monitoring.alert_rules; a test says when it is stale.",
        "groups:",
        "  - name: ha-automation",
        "    rules:",
    ]
    return "\n".join([*lines, *(line for rule in rules for line in _lines(rule))]) + "\n"


def _lines(rule: AlertRule) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield f"        expr: {json.dumps(rule.expr)}"
    yield f"        for: {rule.for_s}s"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield "        annotations:"
    yield f"          summary: {json.dumps(rule.summary)}"
    yield f"          description: {json.dumps(rule.description)}"
    yield f"          runbook_url: {json.dumps(f'{RUNBOOKS}/{rule.runbook}.md')}"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(rule_file(), "utf-8")
