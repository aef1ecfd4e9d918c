"""Versioned files of a host: kept by content, exchanged in one act, and nothing of them leaves the host."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from ha_tasks.errors import ActionFailed, AgentRefused, PassingFailure, StaleAuthority, UsageError
from tests.unit.test_agent_units import end_units, starts, units
from workers.agent.config import FileConfig, load_config
from workers.agent.files import Files
from workers.agent.units import Units

SECRET = "password = hunter2\n"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "web.conf").write_text("first\n")
    return tmp_path


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def agent(home: Path, **changes: object) -> Files:
    """As an agent makes it when it starts; a reload writes down what it has read."""
    config = FileConfig(
        name="conf",
        path=home / "web.conf",
        staged=home / "web.conf.new",
        reload=shell(f"cat {home}/web.conf >> {home}/loaded"),
    )
    for key, value in changes.items():
        object.__setattr__(config, key, value)
    return Files({"conf": config}, home / "state", Units({}, home / "state"))


def put(it: Files, text: str, fence: int = 1, timeout_s: float = 10.0) -> object:
    return it.put("conf", sha(text), "run-1-1", fence=fence, timeout_s=timeout_s)


def test_a_file_is_kept_and_put_back_by_its_digest(home):
    it = agent(home)
    assert it.keep("conf", staged=False) == {"digest": sha("first\n")}
    (home / "web.conf").write_text("second\n")
    before = it.status("conf")

    assert put(agent(home), "first\n") == {"digest": sha("first\n")}

    assert before == {"digest": sha("second\n"), "staged": None, "loaded": None, "untold": False, "fence": 0}
    assert it.status("conf") == {
        "digest": sha("first\n"),
        "staged": None,
        "loaded": sha("first\n"),
        "untold": False,
        "fence": 1,
    }
    assert (home / "loaded").read_text() == "first\n"


def test_what_waits_beside_it_is_kept_without_being_served(home):
    it = agent(home)
    (home / "web.conf.new").write_text(SECRET)

    assert it.keep("conf", staged=True) == {"digest": sha(SECRET)} == {"digest": it.status("conf")["staged"]}
    assert (home / "web.conf").read_text() == "first\n"
    put(it, SECRET)
    assert (home / "web.conf").read_text() == SECRET


def test_what_is_kept_is_for_the_agent_alone_and_the_file_keeps_its_mode(home):
    (home / "web.conf").chmod(0o640)
    it = agent(home)
    (home / "web.conf.new").write_text(SECRET)
    it.keep("conf", staged=True)
    put(it, SECRET)

    kept = [path for path in (home / "state/files").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert stat.S_IMODE((home / "state/files/conf").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "web.conf").stat().st_mode) == 0o640
    assert not list(home.glob(".*.fresh"))


def test_what_its_check_refuses_changes_nothing_and_quotes_nothing(home):
    it = agent(home, check=shell("cat {}; ! grep -q hunter2 {}"))
    (home / "web.conf.new").write_text(SECRET)
    it.keep("conf", staged=True)

    with pytest.raises(ActionFailed, match="its check refuses") as refused:
        put(it, SECRET)

    assert "hunter2" not in str(refused.value)
    assert (home / "state/files/conf.log").read_text() == SECRET
    assert (home / "web.conf").read_text() == "first\n"
    assert not (home / "loaded").exists()
    assert not list(home.glob(".*.fresh"))
    assert (it.status("conf")["loaded"], it.status("conf")["untold"]) == (None, False)


def test_what_is_there_already_and_was_not_loaded_is_loaded(home):
    it = agent(home, reload=shell(f"test -e {home}/up && cat {home}/web.conf >> {home}/loaded"))
    it.keep("conf", staged=False)
    with pytest.raises(ActionFailed, match="its reload failed"):
        put(it, "first\n")
    assert (it.status("conf")["loaded"], it.status("conf")["untold"]) == (None, True)
    (home / "up").touch()

    put(it, "first\n")

    assert it.status("conf")["loaded"] == sha("first\n")
    assert (home / "loaded").read_text() == "first\n"


def test_a_lower_fence_is_refused_and_changes_nothing_even_after_a_restart(home):
    it = agent(home)
    it.keep("conf", staged=False)
    (home / "web.conf").write_text("second\n")
    it.keep("conf", staged=False)
    put(it, "second\n", fence=7)

    with pytest.raises(StaleAuthority):
        put(agent(home), "first\n", fence=6)

    assert (home / "web.conf").read_text() == "second\n"
    assert it.status("conf")["fence"] == 7


def test_what_somebody_wrote_since_the_last_look_is_kept_before_it_is_exchanged(home):
    it = agent(home)
    it.keep("conf", staged=False)
    (home / "web.conf").write_text("not recorded\n")
    put(it, "first\n")

    put(it, "not recorded\n")

    assert (home / "web.conf").read_text() == "not recorded\n"


@pytest.mark.parametrize("digest", ["../../etc/passwd", "0" * 63, "", "G" * 64])
def test_what_is_no_digest_is_refused(home, digest):
    with pytest.raises(AgentRefused, match="64 hexadecimal digits"):
        agent(home).put("conf", digest, "k", fence=1, timeout_s=1)


def test_a_content_that_is_not_kept_or_was_changed_is_not_put_into_place(home):
    it = agent(home)
    with pytest.raises(ActionFailed, match="is not kept on this host"):
        put(it, "never\n")
    digest = it.keep("conf", staged=False)["digest"]
    (home / "web.conf").write_text("second\n")
    (home / "state/files/conf" / digest).write_text("somebody's\n")

    with pytest.raises(ActionFailed, match="was changed"):
        put(it, "first\n")
    assert (home / "web.conf").read_text() == "second\n"


def test_a_symbolic_link_in_the_place_of_a_file_is_refused(home):
    (home / "web.conf").rename(home / "real.conf")
    (home / "web.conf").symlink_to(home / "real.conf")

    with pytest.raises(ActionFailed, match="write its real path"):
        agent(home).status("conf")


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(home):
    (home / "web.conf").unlink()
    os.mkfifo(home / "web.conf")

    with pytest.raises(ActionFailed, match="is no file"):
        agent(home).status("conf")


def test_a_directory_in_the_place_of_a_file_is_told(home):
    (home / "web.conf").unlink()
    (home / "web.conf").mkdir()

    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(ActionFailed, match="is no file"):
        agent(home).status("conf")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_reload_that_takes_too_long_may_be_tried_again(home):
    it = agent(home, reload=("sleep", "5"))
    it.keep("conf", staged=False)

    with pytest.raises(PassingFailure, match="sleep takes too long"):
        put(it, "first\n", timeout_s=0.2)


def test_only_the_contents_last_used_are_kept(home):
    config = FileConfig(name="conf", path=home / "web.conf", reload=("true",))
    it = Files({"conf": config}, home / "state", Units({}, home / "state"), kept=3)
    for text in "abcde":
        (home / "web.conf").write_text(text)
        it.keep("conf", staged=False)

    assert {path.name for path in (home / "state/files/conf").iterdir()} == {sha(t) for t in "cde"}


def test_what_reads_only_when_it_starts_is_restarted_once_per_content(home):
    web = units(home)
    config = FileConfig(name="conf", path=home / "web.conf", unit="web1")
    it = Files({"conf": config}, home / "state", web)
    try:
        it.keep("conf", staged=False)
        put(it, "first\n")
        put(it, "first\n")

        assert starts(home) == [f"run-1-1/conf/{sha('first' + chr(10))[:12]}"]
    finally:
        end_units(home)


def releases(home: Path) -> Files:
    for name in ("41", "42"):
        (home / "releases" / name).mkdir(parents=True)
        (home / "releases" / name / "app.py").write_text(f"release {name}\n")
    (home / "current").symlink_to("releases/41")
    (home / "next").symlink_to(home / "releases/42")
    return agent(
        home,
        path=home / "current",
        staged=home / "next",
        releases=home / "releases",
        reload=shell(f"cat {home}/current/app.py >> {home}/loaded"),
    )


def test_a_release_is_a_link_that_is_exchanged_and_goes_back(home):
    it = releases(home)
    before = it.keep("conf", staged=False)["digest"]
    after = it.keep("conf", staged=True)["digest"]

    for digest in (after, after, before):
        it.put("conf", digest, "k", fence=1, timeout_s=10)

    assert it.status("conf")["digest"] == before != after
    assert (home / "current").resolve() == home / "releases/41"
    assert (home / "loaded").read_text().splitlines() == ["release 42", "release 42", "release 41"]


def test_a_release_that_was_changed_since_it_was_recorded_is_not_gone_back_to(home):
    it = releases(home)
    digest = it.keep("conf", staged=True)["digest"]
    (home / "releases/42/app.py").chmod(0o755)

    with pytest.raises(ActionFailed, match="release 42 was changed since"):
        it.put("conf", digest, "k", fence=1, timeout_s=10)
    assert (home / "current").resolve() == home / "releases/41"


def test_a_release_is_read_again_only_when_something_of_it_was_written(home):
    it = releases(home)
    before = it.status("conf")["digest"]
    app = home / "releases/41/app.py"
    file = app.stat()
    app.write_text("RELEASE 41\n")
    os.utime(app, ns=(file.st_atime_ns, file.st_mtime_ns))
    changed = it.status("conf")["digest"]
    app.write_text("release 41\n")

    assert before == it.status("conf")["digest"] != changed


def test_a_link_that_leads_out_of_the_releases_is_refused(home):
    it = releases(home)
    (home / "next").unlink()
    (home / "next").symlink_to("releases/../state")

    with pytest.raises(AgentRefused, match="leads out of"):
        it.keep("conf", staged=True)


def write_config(home: Path, files_table: str) -> Path:
    (home / "key").write_text("k" * 40)
    lines = ["schema = 1", 'host = "app"', 'listen = "127.0.0.1:1"', 'key = { file = "key" }']
    lines += ['state_dir = "state"', files_table]
    (home / "agent.toml").write_text("\n".join(lines))
    return home / "agent.toml"


def test_the_files_of_a_configuration_are_allowed_and_relative_to_it(home):
    config = load_config(write_config(home, '[files.conf]\npath = "web.conf"\nreload = ["true"]'))

    assert config.files == {"conf": FileConfig(name="conf", path=home / "web.conf", reload=("true",))}
    assert config.allow == {"keep_file", "put_file"}


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('[files.conf]\npath = "a"', "needs either reload or unit"),
        ('[files.conf]\npath = "a"\nunit = "web1"', r"there is no \[units.web1\]"),
        ('[files."a/b"]\npath = "a"\nreload = ["true"]', "make a name"),
        ('[files.conf]\npath = "a"\nreload = ["true"]\ncolour = 1', "colour is unknown"),
    ],
)
def test_a_file_that_cannot_be_exchanged_is_said_at_the_start(home, table, problem):
    with pytest.raises(UsageError, match=problem):
        load_config(write_config(home, table))


def test_a_tree_is_named_by_everything_in_it(home):
    it = releases(home)
    content = json.loads((home / "state/files/conf" / it.keep("conf", staged=False)["digest"]).read_text())

    assert content["release"] == "41"
    assert len(content["tree"]) == 64
