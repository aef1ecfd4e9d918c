"""Alert rules: the file is made from the table, names only what is exported, and fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ha_tasks.monitoring.alert_rules import FILE, RULES, RUNBOOKS, rule_file
from ha_tasks.monitoring.prometheus import CATALOGUE

ROOT = Path(__file__).parents[2]


def test_the_rule_file_is_not_stale():
    assert FILE.read_text() == rule_file(), (
        "write it anew: .venv/bin/python -m ha_tasks.monitoring.alert_rules"
    )


def test_rules_use_only_what_is_exported():
    exported = {definition.name for definition in CATALOGUE}

    assert {name for rule in RULES for name in re.findall(r"\bha_\w+", rule.expr)} <= exported


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_alert_leads_to_its_runbook(rule):
    page = ROOT / RUNBOOKS / f"{rule.runbook}.md"

    assert rule.name in page.read_text().splitlines()[0]


SWITCHED_OFF = {"series": 'ha_automation_disabled{scope="web",mode="off"}', "values": "1x120"}
SINCE_THE_BEGINNING = {
    "series": 'ha_automation_disabled_since_timestamp_seconds{scope="web",mode="off"}',
    "values": "0x120",
}


def alert(minute: int, name: str, labels: dict[str, str] | None) -> dict[str, object]:
    expected = [] if labels is None else [{"exp_labels": labels | {"alertname": name}}]
    return {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": expected}


CASES = [
    {
        "interval": "1m",
        "input_series": [SWITCHED_OFF, SINCE_THE_BEGINNING],
        "alert_rule_test": [
            alert(59, "AutomationDisabled", None),
            alert(60, "AutomationDisabled", {"scope": "web", "mode": "off", "severity": "warning"}),
        ],
    },
    {
        "interval": "1m",
        "input_series": [
            {"series": 'ha_automation_disabled{scope="web",mode="off"}', "values": "0x120"},
            {"series": 'ha_automation_disabled{scope="db",mode="halted"}', "values": "1x120"},
        ],
        "alert_rule_test": [alert(90, "AutomationDisabled", None)],
    },
    {
        "interval": "1m",
        "input_series": [
            {"series": 'ha_approvals_waiting{recovery_type="failover"}', "values": "0 0 1 1 0 0"},
        ],
        "alert_rule_test": [
            alert(1, "ApprovalWaiting", None),
            alert(2, "ApprovalWaiting", {"recovery_type": "failover", "severity": "critical"}),
            alert(4, "ApprovalWaiting", None),
        ],
    },
    {
        "interval": "1m",
        "input_series": [
            {"series": "ha_store_up", "values": "1 0 0 1"},
            {"series": "ha_store_trusted", "values": "1 0 1 1"},
        ],
        "alert_rule_test": [
            alert(0, "StoreDown", None),
            alert(2, "StoreDown", {"severity": "critical"}),
            alert(3, "StoreDown", None),
            alert(1, "StoreNotTrusted", {"severity": "critical"}),
            alert(2, "StoreNotTrusted", None),
        ],
    },
    {
        "interval": "1m",
        "input_series": [{"series": "ha_system_healthy", "values": "1 0 0 0 1"}],
        "alert_rule_test": [
            alert(2, "SystemUnhealthy", None),
            alert(3, "SystemUnhealthy", {"severity": "warning"}),
            alert(4, "SystemUnhealthy", None),
        ],
    },
    {
        "interval": "1m",
        "input_series": [
            {"series": 'ha_replication_risk_seconds{cluster="db"}', "values": "0 0 3 3 3 6"},
            {"series": 'ha_service_rpo_seconds{service_name="db"}', "values": "5x9"},
            {"series": 'ha_replication_risk_known{cluster="db"}', "values": "1 1 1 1 1 1 1 0 0 1"},
        ],
        "alert_rule_test": [
            alert(4, "DataAtRisk", None),
            alert(6, "DataAtRisk", {"cluster": "db", "severity": "critical"}),
            alert(8, "DataAtRisk", {"cluster": "db", "severity": "critical"}),
        ],
    },
    {
        "interval": "1m",
        "input_series": [
            {"series": 'ha_cluster_state{cluster="db",state="failing"}', "values": "0 1 1 1 0"},
            {"series": 'ha_cluster_state{cluster="db",state="steady"}', "values": "1 0 0 0 1"},
            {
                "series": 'ha_replication_finding{cluster="db",finding="any_sync_standby"}',
                "values": "0 1 1 1",
            },
            {"series": 'ha_replication_finding{cluster="db",finding="diverged"}', "values": "0 0 0 0"},
            {"series": 'ha_replication_missing{cluster="db"}', "values": "1x4 0 1x6"},
        ],
        "alert_rule_test": [
            alert(1, "ClusterNotSteady", None),
            alert(2, "ClusterNotSteady", {"cluster": "db", "state": "failing", "severity": "critical"}),
            alert(4, "ClusterNotSteady", None),
            alert(2, "SynchronousSetDiffers", {"cluster": "db", "severity": "critical"}),
            alert(3, "NodeDiverged", None),
            alert(4, "RedundancyMissing", None),
            alert(11, "RedundancyMissing", {"cluster": "db", "severity": "warning"}),
        ],
    },
    {
        "interval": "1m",
        "input_series": [
            {"series": 'ha_events_given_up_total{destination="pager"}', "values": "0 0 1 1"},
            {"series": 'ha_event_lag_seconds{destination="pager"}', "values": "0 301 361 0"},
        ],
        "alert_rule_test": [
            alert(1, "EventsGivenUp", None),
            alert(2, "EventsGivenUp", {"destination": "pager", "severity": "warning"}),
            alert(1, "EventsLate", None),
            alert(2, "EventsLate", {"destination": "pager", "severity": "warning"}),
        ],
    },
]


@pytest.mark.needs("promtool")
def test_the_rules_fire_when_they_should_and_not_before(tmp_path: Path):
    shutil.copy(FILE, tmp_path / FILE.name)
    without_texts = re.sub(r"\n        annotations:(\n          .*)+", "", rule_file())
    (tmp_path / FILE.name).write_text(without_texts)
    case = tmp_path / "cases.yml"
    case.write_text(json.dumps({"rule_files": [FILE.name], "evaluation_interval": "1m", "tests": CASES}))

    for command in (["check", "rules", str(FILE)], ["test", "rules", str(case)]):
        program = str(shutil.which("promtool"))
        done = subprocess.run([program, *command], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
