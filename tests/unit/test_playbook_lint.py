"""Playbook lint: each finding with file, step, what and mending."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from ha_tasks.bootstrap.actions import shipped_traits
from ha_tasks.cli.root import run
from ha_tasks.disaster_recovery.lint import Finding, errors, findings
from ha_tasks.disaster_recovery.playbooks import SHIPPED, read_files, read_playbooks
from ha_tasks.inventory import load
from ha_tasks.model.action import Takes, Traits
from ha_tasks.model.platform import Platform
from ha_tasks.names import ActionName
from tests.own_packages import install
from tests.unit.inventory_files import write_inventory

GOOD = """
schema = 1
name = "mine"
version = 1
summary = "flush it"
recovery_type = "restart"
priority = 1
[match]
incident = "instance_down"
kind = "http"
[[step]]
action = "take_out"
args = { instance = "${incident.instance}" }
undo = "keep"
timeout_s = 1
[[step]]
action = "acme.flush"
needs = ["take_out"]
args = { zone = "www" }
timeout_s = 2
[verify]
within_s = 5
"""
ACTIONS: Mapping[str, Traits] = {
    **shipped_traits(),
    "acme.flush": Traits(takes=Takes(needed=("zone",), may=("host",)), provider="acme 1"),
    "acme.broken": Traits(missing="acme 1: it cannot be loaded"),
    "acme.any": Traits(limit_s=240, undoes=False),
}


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return load(write_inventory(tmp_path / "home", ("rto_s = 30 ", "rto_s = 9 ")), {}).platform


def written(directory: Path, *changes: tuple[str, str], name: str = "mine") -> Path:
    text = GOOD.replace('"mine"', f'"{name}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = directory / f"{name}.toml"
    path.write_text(text)
    return path


def linted(path: Path, platform: Platform | None = None) -> list[str]:
    return [str(f).removeprefix(str(path)) for f in findings(read_files([path]), ACTIONS, platform)]


def test_a_good_playbook_has_no_finding(tmp_path: Path, platform: Platform):
    assert linted(written(tmp_path), platform) == []


TWO = 'args = { zone = "www" }\ntimeout_s = 2'


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [('"acme.flush"', '"acme.flsh"')],
            ': step acme.flsh: no installed package offers the action "acme.flsh"; '
            'install the one that does; did you mean "acme.flush"?',
        ),
        (
            [('action = "take_out"', 'action = "take_uot"'), ('["take_out"]', "[]")],
            ': step take_uot: action: "take_uot" is not known here; did you mean "take_out"?',
        ),
        (
            [('"acme.flush"', '"acme.broken"')],
            ': step acme.broken: the action "acme.broken" cannot be used: acme 1: it cannot be loaded; '
            "mend that package, or take the step out",
        ),
        (
            [('zone = "www"', 'zone = "www", hots = "a"')],
            ': step acme.flush: args: acme.flush has no argument "hots"; did you mean "host"?',
        ),
        (
            [('zone = "www"', 'host = "a"')],
            ': step acme.flush: args: acme.flush needs the argument "zone"; write args = { zone = "..." }',
        ),
        (
            [('undo = "keep"\n', "")],
            ": step take_out: take_out cannot be undone, and this is no point of no return; "
            'write undo = "keep" where its effect may stay, else point_of_no_return = true',
        ),
        (
            [('undo = "keep"', "point_of_no_return = true"), (TWO, TWO + '\nundo = "run"')],
            ": step acme.flush: its undo can never run: take_out, a point of no return, comes before it; "
            "take undo out, or move the step before it",
        ),
        (
            [("timeout_s = 1", "timeout_s = 61")],
            ": step take_out: timeout_s: its task is ended after 60 s, before that; write 60 at most",
        ),
        (
            [('"acme.flush"', '"open_epoch"'), ('args = { zone = "www" }\n', "")],
            ": step open_epoch: open_epoch is for kind postgres, and this playbook for http; "
            "take the step out",
        ),
        (
            [('needs = ["take_out"]', 'needs = ["take"]')],
            ': step acme.flush: needs: there is no step "take"; did you mean "take_out"?',
        ),
        (
            [
                ("[verify]", '[[step]]\nid = "last"\naction = "acme.flush"\n' + TWO + "\n[verify]"),
                (TWO, TWO + '\n[[step]]\nid = "next"\naction = "acme.flush"\nneeds = ["x"]\n' + TWO),
                ('id = "last"', 'id = "last"\nneeds = ["next"]'),
            ],
            ": step last: can never run: next, which it needs, never does; mend next",
        ),
        (
            [('action = "take_out"', 'action = "take_out"\nneeds = ["acme.flush"]')],
            ": step take_out: needs: goes round in a circle: take_out needs acme.flush needs take_out; "
            "take one of these needs out",
        ),
        (
            [('action = "acme.flush"', 'id = "take_out"\naction = "acme.flush"')],
            ": step take_out: id: is the id of two steps; give each its own id",
        ),
        ([("[match]", "[match")], ": is no TOML: "),
        (
            [('kind = "http"', 'kind = "http"\nservice = "wbe"')],
            ': match.service: there is no service "wbe"; did you mean "web"?',
        ),
        (
            [('kind = "http"', 'service = "db"')],
            ": match: instance_down of kind any never happens to db (postgres); mend incident or kind",
        ),
    ],
)
def test_each_fault_is_told_with_its_step_and_its_mending(
    tmp_path: Path, platform: Platform, changes: list[tuple[str, str]], said: str
):
    path = written(tmp_path, *changes)

    found = linted(path, platform)

    assert any(line.startswith(said) for line in found), found


def test_a_step_behind_the_point_of_no_return_needs_no_way_back(tmp_path: Path, platform: Platform):
    path = written(
        tmp_path,
        ('undo = "keep"', "point_of_no_return = true"),
        ('"acme.flush"', '"acme.any"'),
        ('zone = "www"', 'what = "ever"'),
    )

    assert linted(path, platform) == []


def test_what_nothing_says_of_its_arguments_is_not_judged(tmp_path: Path):
    path = written(tmp_path, ('"acme.flush"', '"acme.any"'), (TWO, TWO + '\nundo = "keep"'))

    assert linted(path) == []


def test_limits_above_an_objective_and_an_empty_selector_are_warnings(tmp_path: Path, platform: Platform):
    slow = written(tmp_path, ("within_s = 5", "within_s = 50"), name="slow")
    strange = written(
        tmp_path, ('"instance_down"', '"primary_down"'), ('kind = "http"\n', ""), name="strange"
    )
    alone = Platform(name="p", services={"web": platform.services["web"]}, hosts={}, balancers={})

    found = findings(read_files([slow, strange]), ACTIONS, alone)

    assert errors(found) == ()
    assert [f"{Path(f.file).stem}: {f.what}; {f.mending}" for f in found] == [
        "slow: its limits add up to 53 s, the objective of web is 9 s; have drills prove that it is faster",
        "strange: match: no service of the inventory can have primary_down; "
        "add such a service, or take the playbook out",
    ]


def test_what_others_manage_can_match_nothing(tmp_path: Path):
    inventory = write_inventory(tmp_path / "home", ('managed_by = "ha_tasks" ', 'managed_by = "external" '))
    path = written(tmp_path, ('kind = "http"', 'service = "web"'))

    found = linted(path, load(inventory, {}).platform)

    assert found == [
        ": match.service: web is managed by external, it is never acted on; take the playbook out"
    ]


def test_the_shipped_playbooks_have_no_error(platform: Platform):
    found = findings(read_playbooks([SHIPPED]), ACTIONS, platform)

    assert errors(found) == ()
    assert len(found) == 4


def test_our_actions_declare_what_they_take_and_whether_they_can_be_undone():
    traits = shipped_traits()

    assert set(traits) == {str(name) for name in ActionName if name is not ActionName.VERIFY_SERVICE}
    assert not any(each.takes.anything for each in traits.values())
    assert {name for name, each in traits.items() if each.undoes} == {
        "open_epoch",
        "isolate_primary",
        "fence_primary",
        "revoke_standbys",
        "choose_candidate",
        "repoint_survivors",
        "pause_pooler",
        "stop_primary",
        "choose_successor",
        "close_reads",
        "apply_version",
    }


def test_the_command_lints_files_and_directories_and_answers_in_json_and_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    site, books = tmp_path / "site", tmp_path / "books"
    site.mkdir()
    books.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("HA_TASKS_HOME", str(tmp_path / "nowhere"))
    install(site, "acme-lint", {"acme.flush": "acme_lint:flush"})
    good, bad = written(books, name="good"), written(tmp_path, ("acme.flush", "acme.flsh"), name="bad")

    assert run(["playbook", "lint", str(good)]) == 0
    assert "ok: good" in capsys.readouterr().out
    assert run(["playbook", "lint", str(books), str(bad), "--json"]) == 2

    content = json.loads(capsys.readouterr().out)
    assert (content["ok"], content["errors"]) == (False, 2)
    assert {f["step"] for f in content["findings"]} == {"acme.flsh", ""}
    assert {f["level"] for f in content["findings"]} == {"error"}
    assert run(["playbook", "lint", str(bad)]) == 2
    assert f"error: {bad}: step acme.flsh: no installed package" in capsys.readouterr().out


def test_a_package_that_cannot_be_loaded_is_told_where_a_playbook_needs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("HA_TASKS_HOME", str(write_inventory(tmp_path / "home").parent))
    install(site, "acme-gone", {"acme.flush": "acme_gone:flush"})

    assert run(["playbook", "lint", str(written(tmp_path))]) == 2

    said = capsys.readouterr().out
    assert 'step acme.flush: the action "acme.flush" cannot be used: acme-gone 1.0: acme_gone:flush' in said


def test_a_finding_is_one_line():
    finding = Finding(file="a.toml", step="", what="is wrong", mending="mend it", warning=True)

    assert str(finding) == "a.toml: is wrong; mend it"
    assert finding.to_json()["level"] == "warning"
