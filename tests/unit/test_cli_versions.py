"""``ha-tasks versions`` and ``ha-tasks rollback`` as they are called, with agents that are away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ha_tasks.cli import rollback, versions
from ha_tasks.cli.root import run
from ha_tasks.inventory import load
from ha_tasks.model.versions import Judgement
from ha_tasks.store import Store
from tests.plans import NOW
from tests.unit.inventory_files import write_inventory
from tests.unit.test_cli_views import text

TABLE = (
    "# [[services.web.files]]",
    '# name = "site"                        # [files.site] in agent.toml of these hosts',
    '# hosts = ["app1"]',
)
A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose service web has a file, whose agent is away, and two versions: the first is good."""
    path = write_inventory(
        tmp_path_factory.mktemp("home"),
        ("\n".join(TABLE), "\n".join(line.removeprefix("# ") for line in TABLE)),
        ("127.0.0.1:7104", "127.0.0.9:9"),
    )
    store = Store(load(path, {}).store_url())
    store.migrate()
    store.versions.record("web", {"app1/site": A}, actor="ann", reason="TLS 1.3", now=NOW)
    store.versions.judge("web", 1, Judgement.GOOD, "served", NOW, actor="w1")
    store.versions.record("web", {"app1/site": B}, actor="bob", reason="", now=NOW)
    store.dispose()
    return path.parent


@pytest.fixture
def home(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It is the home of whatever is called."""
    monkeypatch.setenv("HA_TASKS_HOME", str(written))
    monkeypatch.delenv("HA_TASKS_CONFIG", raising=False)
    return written


def test_versions_are_listed_also_while_an_agent_is_away(home, capsys):
    assert run(["versions", "web", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert run(["versions", "web"]) == 0
    shown = capsys.readouterr().out

    assert [(v["version"], v["judgement"], v["actor"]) for v in content["versions"]] == [
        ("v2", "recorded", "bob"),
        ("v1", "good", "ann"),
    ]
    assert (content["good"], content["in_place"], list(content["untold"])) == ("v1", None, ["app1/site"])
    assert "app1/site is not known: the agent of app1 did not answer" in shown
    assert "TLS 1.3" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["versions", "web", "--record"], 4, "the agent of app1"),
        (["versions", "wbe"], 2, 'did you mean "web"'),
        (["versions", "cache"], 2, "cache has no files; name what it is served from"),
        (["rollback", "cache"], 2, "there is no good version of cache to go back to"),
        (["rollback", "web"], 2, "there is no good version of web to go back to"),
        (["rollback", "web", "--to", "9", "--yes"], 2, "web has no version 9; see: ha-tasks versions web"),
        (["rollback", "web", "--to", "latest", "--yes"], 2, '"latest" is no version'),
        (["rollback", "web", "--to", "1"], 2, "nobody can be asked here; say --yes"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_mending(home, capsys, arguments, status, said):
    assert run(arguments) == status
    assert said in capsys.readouterr().err


def test_a_dry_run_shows_the_plan_and_says_who_is_silent(home, capsys):
    assert run(["rollback", "web", "--to", "1", "--dry-run"]) == 0

    shown = capsys.readouterr().out
    assert "version-apply v1 by order of a person" in shown
    assert "the agent of app1 did not answer" in shown
    assert "ha-tasks rollback web --to v1" in shown


def test_the_lines_say_what_is_in_place_and_the_way_back():
    content = {
        "service": "web",
        "in_place": None,
        "good": "v1",
        "present": {"app1/site": "c" * 64, "app2/site": None},
        "untold": {},
        "recorded": "v2",
        "versions": [
            {
                "version": "v1",
                "judgement": "good",
                "why": "",
                "recorded_at": NOW.isoformat(),
                "actor": "ann",
                "reason": "TLS 1.3",
                "files": {},
                "differs": ["app1/site"],
            }
        ],
    }

    shown = text(versions.lines(content))

    assert "recorded v2" in shown
    assert f"what is there is no recorded version: app1/site {'c' * 12}, app2/site nothing" in shown
    assert "back to v1: ha-tasks rollback web" in shown
    assert "no version yet" in text(versions.lines({**content, "versions": [], "in_place": None}))


@pytest.mark.parametrize(
    ("state", "said"),
    [("rolled_back", "every file has what it held before"), ("compensation_failed", "a person is needed")],
)
def test_the_outcome_says_whether_what_was_there_is_back(state, said):
    run_ = {"id": 7, "service": "web", "state": state}
    content = {"success": False, "run": run_, "version": "v2", "files": [], "message": "no good answer"}

    assert said in text(rollback.lines(content))
    done = text(rollback.lines({**content, "success": True, "files": ["app1/site"]}))
    assert done == "done: web is served from v2 (app1/site)"
