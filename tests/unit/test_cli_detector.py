"""ha-tasks detector: from the store into a file, and from the file to alarms and a score."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ha_tasks.bootstrap import assemble
from ha_tasks.cli.root import run
from ha_tasks.inventory import load
from ha_tasks.model.probe import OutcomeKind
from tests.unit.builders import outcome
from tests.unit.inventory_files import write_inventory

OK, REFUSED = OutcomeKind.OK, OutcomeKind.REFUSED


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two observers saw of web1, which was down for 2 s half a minute ago."""
    path = write_inventory(tmp_path_factory.mktemp("home"))
    assert run(["--home", str(path.parent), "migrate"]) == 0
    system = assemble(load(path, {}))
    begin = system.clock.now() - timedelta(seconds=60)
    for number, kind in enumerate([OK] * 10 + [REFUSED] * 4 + [OK] * 30):
        sent = begin + timedelta(seconds=number * 0.5)
        for vantage in ("h1/a", "h2/b"):
            seen = outcome("web1", 0, kind, service="web", vantage=vantage)
            system.store.observations.record([replace(seen, sent_at=sent, known_at=sent)])
    system.store.dispose()
    return path.parent


@pytest.fixture
def recorded(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to write it; the home is set."""
    monkeypatch.setenv("HA_TASKS_HOME", str(home))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    return tmp_path / "probes.jsonl"


def replayed(file, capsys, *more):
    capsys.readouterr()
    status = run(["detector", "replay", str(file), "--json", *more])
    return status, json.loads(capsys.readouterr().out)


def test_what_the_store_has_is_written_down_and_replayed(recorded: Path, capsys):
    assert run(["detector", "record", "web", str(recorded)]) == 0
    status, told = replayed(recorded, capsys)

    assert (status, told["probes"], told["score"]) == (0, 88, None)
    (alarm,) = told["alarms"]
    assert (alarm["instance"], alarm["false"]) == ("web1", None)
    assert "connection refused" in alarm["evidence"]


def test_with_the_truth_it_is_scored_and_a_knob_that_misses_the_failure_is_told(recorded: Path, capsys):
    assert run(["detector", "record", "web", str(recorded), "--since", "5m"]) == 0
    probes = [json.loads(line).get("probe", {}) for line in recorded.read_text().splitlines()]
    first = next(probe["sent_at"] for probe in probes if probe.get("kind") == "refused")
    truth = {"service": "web", "instance": "web1", "from": first, "until": "2100-01-01T00:00:00+00:00"}
    with recorded.open("a") as file:
        file.write(json.dumps({"truth": {**truth, "why": "kill -9"}}) + "\n")

    status, told = replayed(recorded, capsys)
    assert (status, told["score"]["found"], told["score"]["false"]) == (0, 1, 0)
    assert told["score"]["took_longest_s"] == pytest.approx(0.5)

    status, told = replayed(recorded, capsys, "--set", "restart_s=3", "--set", "silence_s=3")
    assert (status, told["alarms"], told["score"]["missed"]) == (1, [], 1)

    assert run(["detector", "replay", str(recorded)]) == 0
    out = capsys.readouterr().out
    assert "(kill -9): found after 0.50 s" in out
    assert "found 1, missed 0, false 0; median 0.50 s, longest 0.5 s" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "db", "new.jsonl"], "its nodes are judged together"),
        (["record", "webb", "new.jsonl"], 'there is no service "webb"'),
        (["record", "web", __file__], "exists already"),
        (["record", "web", "new.jsonl", "--since", "soon"], "is no time; write"),
        (
            ["replay", __file__],
            "test_cli_detector.py: line 1: this is no JSON: Extra data; a line is one JSON object",
        ),
        (["replay", sys.executable], "can't decode"),
        (["replay", "/dev/null"], "holds no probe"),
        (["replay", "PROBES", "--set", "patience=3"], "write NAME=NUMBER with one of restart_s, silence_s"),
        (["replay", "PROBES", "--set", "silence_s=long"], "write NAME=NUMBER"),
        (["replay", "PROBES", "--set", "silence_s=0"], "write NAME=NUMBER"),
        (["replay", "PROBES", "--set", "lossy_share=0.5"], "must be less than failing_share"),
    ],
)
def test_what_cannot_be_done_is_said(recorded: Path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(recorded.parent)
    assert run(["detector", "record", "web", "PROBES"]) == 0

    assert run(["detector", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not Path("new.jsonl").exists()
