"""Alert rules, one table: what must not be forgotten, who waits, what the next failure would cost.

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
        name="SystemUnhealthy",
        expr="ha_system_healthy == 0",
        for_s=120,
        severity="warning",
        summary="A check of the system's health has failed, or cannot tell, for two minutes",
        description="What, and what to do about it: ha-tasks status --health.",
        runbook="system-unhealthy",
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
    AlertRule(
        name="EventsLate",
        expr="ha_event_lag_seconds > 300",
        for_s=60,
        severity="warning",
        summary="{{ $labels.destination }} has not been told for {{ $value }} s",
        description="What happens is told late there; nothing is lost yet.",
        runbook="events-not-delivered",
    ),
    AlertRule(
        name="EventsGivenUp",
        expr="increase(ha_events_given_up_total[1h]) > 0",
        for_s=0,
        severity="warning",
        summary="{{ $labels.destination }} was not told of events within a day, and will not be",
        description="They stand in the audit chain: ha-tasks audit list.",
        runbook="events-not-delivered",
    ),
    AlertRule(
        name="ClusterNotSteady",
        expr='ha_cluster_state{state=~"failing|blocked"} == 1',
        for_s=60,
        severity="critical",
        summary="{{ $labels.cluster }} is {{ $labels.state }} for over a minute",
        description="A failover has not come to its end, or was refused. Why, and what helps: ha-tasks "
        "status.",
        runbook="cluster-not-steady",
    ),
    AlertRule(
        name="TwoPrimaries",
        expr="max by (cluster) (ha_replication_primaries) > 1 or max by (cluster) "
        '(ha_replication_finding{finding="two_primaries"}) == 1',
        for_s=10,
        severity="critical",
        summary="{{ $labels.cluster }}: more than one node takes writes, or another one than recorded",
        description="Stop the wrong one at once. Which it is: ha-tasks replication.",
        runbook="two-primaries",
    ),
    AlertRule(
        name="LostQuorum",
        expr='ha_replication_finding{finding="redundancy_missing"} == 1',
        for_s=10,
        severity="critical",
        summary="Commits of {{ $labels.cluster }} wait: too few of its synchronous standbys stream",
        description="Reads go on. Bring one standby back: ha-tasks replication.",
        runbook="lost-quorum",
    ),
    AlertRule(
        name="RedundancyMissing",
        expr="ha_replication_missing > 0",
        for_s=300,
        severity="warning",
        summary="{{ $value }} standbys of {{ $labels.cluster }} have not streamed for five minutes",
        description="It serves; the next failure may stop it. Who, and why: ha-tasks replication.",
        runbook="replication-lag",
    ),
    AlertRule(
        name="ReplicationLag",
        expr="ha_replication_lag_seconds > 30 or ha_replication_lag_bytes > 268435456",
        for_s=60,
        severity="warning",
        summary="{{ $labels.node }} of {{ $labels.cluster }} is behind",
        description="A promotion of it would take longer, and what is read there is old: ha-tasks "
        "replication.",
        runbook="replication-lag",
    ),
    AlertRule(
        name="ReceiverSilent",
        expr="ha_replication_receiver_silence_seconds > 10",
        for_s=30,
        severity="warning",
        summary="{{ $labels.node }} of {{ $labels.cluster }} has heard nothing for {{ $value }} s",
        description="Its connection is dead, or its upstream hangs: ha-tasks replication.",
        runbook="replication-lag",
    ),
    AlertRule(
        name="SlotHoldsWal",
        expr="sum by (cluster) (ha_replication_slot_held_bytes) > 268435456 or max by (cluster) "
        '(ha_replication_finding{finding="slot_lost"}) == 1',
        for_s=60,
        severity="warning",
        summary="Slots of {{ $labels.cluster }} that nobody reads hold WAL, or have lost it",
        description="It fills the disk up to max_slot_wal_keep_size: ha-tasks replication.",
        runbook="slot-holds-wal",
    ),
    AlertRule(
        name="SyncSetEdited",
        expr="sum by (cluster) (increase(ha_sync_set_edited_total[10m])) > 0",
        for_s=0,
        severity="warning",
        summary="The synchronous set of {{ $labels.cluster }} was edited by hand, and was put back",
        description="What was committed in that time may have waited for nobody, or for one who could not "
        "be promoted.",
        runbook="sync-set-edited",
    ),
    AlertRule(
        name="SynchronousSetDiffers",
        expr="max by (cluster) "
        '(ha_replication_finding{finding=~"sync_set_differs|any_sync_standby|no_sync_standby"}) '
        "== 1",
        for_s=30,
        severity="critical",
        summary="Commits of {{ $labels.cluster }} wait for others than recorded, for anybody, or for nobody",
        description="What is committed now may be lost by a failover: ha-tasks replication.",
        runbook="data-at-risk",
    ),
    AlertRule(
        name="CommitWeakened",
        expr='ha_replication_finding{finding="commit_weakened"} == 1',
        for_s=30,
        severity="warning",
        summary="synchronous_commit of {{ $labels.cluster }} is weakened",
        description="For whom, and the statement that takes it back: ha-tasks replication.",
        runbook="data-at-risk",
    ),
    AlertRule(
        name="DataAtRisk",
        expr="ha_replication_risk_seconds > on (cluster) label_replace(ha_service_rpo_seconds, "
        '"cluster", "$1", "service_name", "(.*)") or ha_replication_risk_known == 0',
        for_s=30,
        severity="critical",
        summary="A failover of {{ $labels.cluster }} would now lose more than its RPO, or nobody "
        "knows how much",
        description="Why it is not proven to be nothing: ha-tasks replication.",
        runbook="data-at-risk",
    ),
    AlertRule(
        name="NodeDiverged",
        expr='max by (cluster) (ha_replication_finding{finding=~"diverged|other_system"}) == 1',
        for_s=60,
        severity="critical",
        summary="A node of {{ $labels.cluster }} has WAL that its primary never had, or is another cluster's",
        description="It can only be rewound or copied anew. Which: ha-tasks replication.",
        runbook="node-diverged",
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
