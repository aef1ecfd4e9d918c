"""What a tired person types: one clear answer and the right exit status, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.cli.audit import LONGEST_OBJECT, described, lines
from ha_tasks.cli.lines import text_of
from ha_tasks.cli.root import _ended_by, run
from tests.unit.inventory_files import write_inventory

HUGE = "9" * 23


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an inventory and a migrated store; nothing is asked of any server here."""
    path = write_inventory(tmp_path / "home")
    monkeypatch.setenv("HA_TASKS_HOME", str(path.parent))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    assert run(["migrate"]) == 0
    assert run(["apply", "--yes"]) == 0
    return path.parent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["incidents", HUGE], "is no incident; write its number"),
        (["incidents", "--limit", HUGE], "is not in the range"),
        (["run", HUGE], "is not in the range"),
        (["run", "0"], "is not in the range"),
        (["approve", HUGE], "is not in the range"),
        (["approve", "1", "--accept-data-loss", HUGE], "is not in the range"),
        (["ack", f"I-{HUGE}"], "is neither a service nor I-<n>"),
        (["maintenance", "end", HUGE], "is not in the range"),
        (["maintenance", "add", "web", "--for", f"{HUGE}d"], "no calendar reaches there"),
        (["maintenance", "add", "web", "--for", "1h", "--tz", "Mars/Olympus"], "there is no time zone"),
        (["audit", "list", "--limit", HUGE], "is not in the range"),
        (["audit", "list", "--since", f"{HUGE}d"], "is no time; write"),
        (["audit", "list", "--since", "999999d"], "is no time; write"),
        (["audit", "list", "--since", "\N{SUPERSCRIPT TWO}d"], "is no time; write"),
        (["audit", "verify", "--heads", __file__], "holds no head of an audit chain"),
        (["recover", "web", "--within", "nan"], "is no number of seconds"),
        (["recover", "web", "--within", "-1"], "is no number of seconds"),
        (["recover", "web", "--within", "soon"], "is no number of seconds"),
        (["migrate", "--to", "foo"], "is no URL of a state store; write"),
        (["migrate", "--to", "mysql://a@b/c"], "is no URL of a state store; write"),
        (["plan", "web", "--kind", "drain"], "is not one of"),
    ],
)
def test_what_nothing_can_hold_is_a_usage_error(home: Path, capsys, arguments: list[str], said: str):
    assert run(arguments) == 2

    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "list"],
        ["audit", "verify"],
        ["maintenance", "list"],
        ["playbook", "list"],
        ["playbook", "show", "http-instance"],
        ["store", "show"],
    ],
)
def test_home_and_json_may_stand_before_or_behind_a_command_of_a_group(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str]
):
    monkeypatch.delenv("HA_TASKS_HOME")
    group, *command = arguments

    for words in (
        [group, "--home", str(home), "--json", *command],
        [group, *command, "--home", str(home), "--json"],
        ["--home", str(home), group, "--json", *command],
    ):
        assert run(words) == 0, words
        assert capsys.readouterr().out.startswith("{"), words


@pytest.mark.parametrize(
    ("kind", "playbook"),
    [
        ("failover", "postgres-failover"),
        ("primary_down", "postgres-failover"),
        ("rejoin", "postgres-rejoin"),
        ("standby_down", "postgres-rejoin"),
    ],
)
def test_a_plan_is_asked_for_in_the_words_of_the_failure_or_of_the_contract(
    home: Path, capsys, kind: str, playbook: str
):
    assert run(["plan", "db", "--kind", kind]) == 0

    assert capsys.readouterr().out.startswith(playbook)


def test_one_long_object_does_not_push_the_others_aside():
    def entry(number: int, about: str) -> dict[str, object]:
        at = "2026-11-24T03:00:00+00:00"
        return {
            "seq": number,
            "at": at,
            "actor": "a",
            "verb": "b",
            "object": about,
            "before": None,
            "after": None,
        }

    told = [entry(1, "servers " + "pg_read/pg1 " * 20), entry(2, "run 7")]
    shown = [text_of(line) for line in lines({"at": "2026-11-24T03:00:00+00:00", "entries": told})]

    assert max(map(len, shown)) < LONGEST_OBJECT + 50
    assert "..." in shown[1]


def test_a_fault_of_ours_is_told_in_one_line_with_its_place(capsys):
    with pytest.raises(AttributeError) as caught:
        described(None)  # type: ignore[arg-type]

    assert _ended_by(caught.value, debug=False) == 1

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("ha-tasks: a fault of ha-tasks itself: AttributeError: ")
    assert "(audit.py:" in told


def test_doctor_tells_the_programs_also_beside_a_file_that_cannot_be_read(home: Path, capsys):
    (home / "ha-tasks.toml").write_text("schema = 1\nbogus = 2\n", "utf-8")

    assert run(["doctor"]) == 2

    out = capsys.readouterr().out
    assert "haproxy" in out
    assert "bogus: unknown key" in out
