"""Playbooks: the shipped ones, and what is said about wrong ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ha_tasks.disaster_recovery.playbooks import (
    SHIPPED,
    load_playbooks,
    read_files,
    read_playbooks,
    strangers,
)
from ha_tasks.errors import PlaybookError
from ha_tasks.inventory import load
from ha_tasks.model.incident import ORDERED, IncidentKind
from ha_tasks.model.platform import ServiceKind
from ha_tasks.model.playbook import GuardSettings, Match, UndoPolicy, VerifySettings
from ha_tasks.names import ActionName, RecoveryType
from tests.unit.inventory_files import write_inventory

GOOD = """
schema = 1
name = "mine"
version = 3
summary = "restart it"
recovery_type = "restart"
[match]
incident = "instance_down"
kind = "http"
[[step]]
action = "take_out"
args = { instance = "${incident.instance}" }
[[step]]
id = "again"
action = "restart_instance"
needs = ["take_out"]
"""


def write(directory: Path, name: str = "mine", *changes: tuple[str, str]) -> Path:
    text = GOOD.replace('name = "mine"', f'name = "{name}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = directory / f"{name}.toml"
    path.write_text(text)
    return path


def test_the_shipped_playbooks_are_these():
    playbooks = {playbook.name: playbook for playbook in load_playbooks()}

    assert {name: [str(step.action) for step in p.steps] for name, p in playbooks.items()} == {
        "http-instance": ["take_out", "spare_in", "restart_instance", "put_back", "spare_out"],
        "postgres-narrow-set": ["narrow_sync_set"],
        "version-apply": ["apply_version"],
        "version-rollback": ["apply_version"],
        "postgres-failover": [
            "open_epoch",
            "isolate_primary",
            "fence_primary",
            "revoke_standbys",
            "choose_candidate",
            "repoint_survivors",
            "promote_candidate",
            "route_writes",
            "commit_primary",
        ],
        "postgres-rejoin": [
            "checkpoint_primary",
            "rejoin_node",
            "await_streaming",
            "widen_sync_set",
            "route_reads",
        ],
        "postgres-restart": ["close_reads", "restart_standby", "await_streaming", "route_reads"],
        "postgres-switchover": [
            "check_switchover",
            "checkpoint_nodes",
            "open_epoch",
            "pause_pooler",
            "isolate_primary",
            "stop_primary",
            "revoke_standbys",
            "choose_successor",
            "repoint_survivors",
            "promote_candidate",
            "route_writes",
            "resume_pooler",
            "demote_primary",
            "commit_primary",
            "restore_redundancy",
        ],
    }


def test_every_action_but_verification_is_used_by_a_shipped_playbook():
    used = {step.action for playbook in load_playbooks() for step in playbook.steps}

    assert used == set(ActionName) - {ActionName.VERIFY_SERVICE}


def test_the_failover_has_one_point_of_no_return_and_everything_before_it_is_undone():
    (failover,) = [p for p in load_playbooks() if p.recovery_type is RecoveryType.FAILOVER]

    assert [s.action for s in failover.steps if s.point_of_no_return] == [ActionName.PROMOTE_CANDIDATE]
    assert {s.undo for s in failover.steps} == {UndoPolicy.RUN}
    assert failover.mitigates
    assert failover.verify.data
    assert failover.guards == GuardSettings(cooldown_s=600, min_healthy=0)


def test_the_shipped_restart_and_rejoin_keep_what_they_did():
    kept = [p for p in load_playbooks() if p.name in ("http-instance", "postgres-rejoin")]

    assert {s.undo for p in kept for s in p.steps} == {UndoPolicy.KEEP}
    assert not any(p.mitigates for p in kept)


def test_a_switchover_has_the_failovers_point_of_no_return_and_gives_all_back_before_it():
    (switchover,) = [p for p in load_playbooks() if p.recovery_type is RecoveryType.SWITCHOVER]
    kept = [s.action for s in switchover.steps if s.undo is UndoPolicy.KEEP]

    assert [s.action for s in switchover.steps if s.point_of_no_return] == [ActionName.PROMOTE_CANDIDATE]
    assert kept == [ActionName.CHECK_SWITCHOVER, ActionName.CHECKPOINT_NODES]
    assert switchover.match.incident in ORDERED


def test_a_file_becomes_a_playbook_with_the_defaults_of_the_model(tmp_path: Path):
    path = write(tmp_path)

    (playbook,) = read_files([path]).playbooks

    assert playbook.version == 3
    assert playbook.match == Match(incident=IncidentKind.INSTANCE_DOWN, kind=ServiceKind.HTTP)
    assert (playbook.guards, playbook.verify) == (GuardSettings(), VerifySettings())
    assert playbook.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    first, second = playbook.steps
    assert (first.id, first.undo, first.timeout_s, first.attempts) == ("take_out", UndoPolicy.RUN, 15.0, 2)
    assert (second.id, second.needs) == ("again", ("take_out",))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version", "vresion", 'vresion: unknown key; did you mean "version"?'),
        ("schema = 1", "schema = 2", 'schema: "2" is none of 1; known: 1'),
        (
            'action = "take_out"',
            'action = "take_uot"',
            'step.take_uot.action: "take_uot" is not known here; did you mean "take_out"?',
        ),
        (
            'action = "take_out"',
            'action = "verify_service"',
            'step.verify_service.action: "verify_service" is not known here; known: ',
        ),
        ('id = "again"', 'id = "Again!"', "step.Again!.id: must match pattern"),
        ('id = "again"', 'id = "take_out"', "step.take_out.id: is the id of two steps; give each its own id"),
        (
            'needs = ["take_out"]',
            'needs = ["take_uot"]',
            'step.again.needs: there is no step "take_uot"; did you mean "take_out"?',
        ),
        (
            'action = "take_out"',
            'action = "take_out"\nneeds = ["again"]',
            "step.take_out.needs: goes round in a circle: take_out needs again needs take_out; take one",
        ),
        (
            'action = "take_out"',
            'action = "take_out"\nneeds = ["take_out"]',
            "step.take_out.needs: goes round in a circle: take_out needs take_out",
        ),
        (
            "${incident.instance}",
            "${incident.host}",
            "step.take_out.args.instance: ${incident.host} cannot be looked up; write one of ${incident.inst",
        ),
        (
            "${incident.instance}",
            "${incident.instance",
            "step.take_out.args.instance: ${incident.instance} can",
        ),
        ("${incident.instance}", "${}", "step.take_out.args.instance: ${} cannot be looked up"),
        (
            '"instance_down"',
            '"instance_up"',
            'match.incident: "instance_up" is not known here; did you mean "in',
        ),
        ('kind = "http"', 'kind = "htpp"', 'match.kind: "htpp" is not known here; did you mean "http"?'),
        (
            '"instance_down"',
            '"primary_down"',
            "match.kind: primary_down happens to kind postgres only; write",
        ),
        (
            '"restart"',
            '"reboot"',
            'recovery_type: "reboot" is not known here; known: failover, rejoin, restart',
        ),
        ('name = "mine"', 'name = "yours"', 'name: is "yours"; call it "mine", like the file'),
        ('summary = "restart it"', "", "summary: is missing; add it: What it does, in one line."),
        (
            'needs = ["take_out"]',
            'needs = ["take_out"]\nundo = "perhaps"',
            'step.again.undo: "perhaps" is none of run, keep; known: keep, run',
        ),
        ("[match]", "[failback]\nautomatic = true\n[match]", 'failback.automatic: "True" is none of False;'),
        ("[match]", "[verify]\nwithin = 3\n[match]", 'verify.within: unknown key; did you mean "within_s"?'),
        ("[match]", "[match", "is no TOML: "),
    ],
)
def test_a_wrong_playbook_is_told_with_file_step_and_mending(tmp_path: Path, old: str, new: str, said: str):
    path = write(tmp_path, "mine", (old, new))

    shelf = read_files([path])

    where = f"{path}: {said}"
    assert any(str(fault).startswith(where) for fault in shelf.faults), shelf.faults
    assert shelf.playbooks == ()


def test_a_playbook_that_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "text.toml").write_bytes(b"\xff")
    (tmp_path / "folder.toml").mkdir()

    said = [str(fault) for fault in read_playbooks([tmp_path]).faults]

    assert said == [
        f"{tmp_path}/folder.toml: cannot be read: Is a directory; mend its permissions",
        f"{tmp_path}/text.toml: is no text; save it as UTF-8",
    ]


def test_every_fault_of_every_playbook_is_told_at_once(tmp_path: Path):
    write(tmp_path, "one", ("version = 3", "version = 0"), ('"take_out"', '"take"'))
    write(tmp_path, "two", ("summary", "sumary"))

    with pytest.raises(PlaybookError) as caught:
        load_playbooks([tmp_path])

    assert len(str(caught.value).splitlines()) == 4


def test_two_playbooks_for_the_same_incidents_are_an_error(tmp_path: Path):
    first, second = write(tmp_path, "a"), write(tmp_path, "b")

    (fault,) = read_files([first, second]).faults

    assert str(fault).startswith(
        f"{second}: priority: {first} answers the same incidents with the same priority;"
    )


@pytest.mark.parametrize(
    "change",
    [("schema = 1", "schema = 1\npriority = 1"), ('kind = "http"', 'kind = "http"\nservice = "web"')],
)
def test_a_priority_or_a_narrower_match_settles_a_tie(tmp_path: Path, change: tuple[str, str]):
    write(tmp_path, "mine", change)

    assert len(load_playbooks([tmp_path])) == len(load_playbooks()) + 1


def test_a_name_that_is_given_twice_is_an_error(tmp_path: Path):
    path = write(tmp_path, "http-instance", ('kind = "http"', 'kind = "http"\nservice = "web"'))

    (fault,) = read_playbooks([SHIPPED, tmp_path]).faults

    assert str(fault).startswith(f"{path}: name: {SHIPPED}/http-instance.toml bears it too")


def test_a_playbook_for_a_service_that_is_not_there_is_remarked(tmp_path: Path):
    platform = load(write_inventory(tmp_path), {}).platform
    http = next(p for p in load_playbooks() if p.name == "http-instance")
    stray = replace(http, match=replace(http.match, service="wbe"))

    assert strangers([http, replace(http, match=replace(http.match, service="web"))], platform) == ()
    assert strangers([stray], platform) == (
        'http-instance: match.service: there is no service "wbe"; did you mean "web"?',
    )
