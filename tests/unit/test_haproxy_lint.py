"""Lint of haproxy.cfg: each rule finds its fault, at its line, and nothing in what we write ourselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_tasks.cli.root import run
from ha_tasks.model.haproxy_config import Pool, Server, render
from ha_tasks.model.haproxy_file import parse, time_ms, words_of
from ha_tasks.model.haproxy_lint import lint
from ha_tasks.model.platform import Check
from tests.unit.inventory_files import write_inventory

SERVERS = (Server(name="web1", address="10.0.0.1:80"), Server(name="web2", address="10.0.0.2:80"))
WEB = Pool(name="web", bind=":80", servers=SERVERS, check=Check(path="/healthz"))
DATABASE = Pool(name="pg_write", bind=":5000", servers=SERVERS, database=True)
GOOD = render("unix:///run/haproxy/admin.sock", (WEB, DATABASE), ("made",))
ONLY_GET = "http-request disable-l7-retry if !METH_GET"


def rules(text: str) -> dict[str, str]:
    """Rule -> the text of the line at which it was found."""
    lines = text.splitlines()
    return {found.rule: lines[found.line - 1].strip() for found in lint(text, frozenset({"pg_write"}))}


def test_the_generated_configuration_has_no_finding():
    assert lint(GOOD, frozenset({"pg_write"})) == ()


@pytest.mark.parametrize(
    ("old", "new", "rule", "line"),
    [
        ("    option redispatch 1\n", "", "redispatch", "backend web"),
        ("option redispatch 1", "no option redispatch", "redispatch", "backend web"),
        ("    retry-on all-retryable-errors\n", "", "retry-on", "backend web"),
        (ONLY_GET, "", "retries-unsafe", "retry-on all-retryable-errors"),
        ("    timeout check 300ms\n", "", "check-timeout", "backend pg_write"),
        ("    timeout server 5000ms\n", "", "timeout", "backend web"),
        ("    option httpchk\n", "", "http-check", "backend web"),
        ("level admin", "level operator", "runtime-api", None),
        ("mode 600", "mode 666", "runtime-api-open", None),
        ("'/run/haproxy/admin.sock'", "*:9999", "runtime-api-open", None),
        ("retries 0", "retries 3", "database-retries", "retries 3"),
        ("timeout connect 500ms", "timeout connect 5s", "database-connect", "timeout connect 5s"),
        ("weight 100 observe", "weight 1 observe", "weight", "server web1 10.0.0.1:80"),
        ("weight 100 observe", "observe", "weight", "server web1 10.0.0.1:80"),
        ("observe layer4 error-limit 3 on-error mark-down", "", "observe", "server web1 10.0.0.1:80"),
        ("web1 10.0.0.1:80", "web1 10.0.0.1:80 inter 2s fall 3", "slow-check", None),
        ("web2 10.0.0.2:80", "web2 10.0.0.2:80 no-check", "no-check", "server web2 10.0.0.2:80 no-check"),
        (
            "mark-down",
            "mark-down on-marked-down shutdown-sessions",
            "cuts-requests",
            "server web1 10.0.0.1:80",
        ),
        (" on-marked-down shutdown-sessions", "", "database-sessions", "server web1 10.0.0.1:80"),
        ("global\n", "maxconn 5\nglobal\n", "no-section", "maxconn 5"),
    ],
)
def test_each_fault_is_found_at_its_line(old: str, new: str, rule: str, line: str | None):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)

    found = rules(text)

    assert set(found) == {rule}
    assert line is None or found[rule] == line


@pytest.mark.parametrize(
    ("condition", "safe"),
    [
        ("", True),
        ("if !METH_GET", True),
        ("if ! METH_GET", True),
        ("unless METH_GET", True),
        ("unless METH_GET or METH_PUT || METH_DELETE", True),
        ("if METH_POST or { method PATCH }", True),
        ("if !{ method GET HEAD }", True),
        ("unless { method GET HEAD PUT }", True),
        ("if METH_POST", False),
        ("if METH_GET", False),
        ("unless METH_POST", False),
        ("if !METH_GET { path_beg /api }", False),
        ("if { src 10.0.0.0/8 }", False),
        ("unless { path /upload }", False),
    ],
)
def test_only_what_surely_excludes_post_and_patch_is_safe(condition: str, safe: bool):
    text = GOOD.replace(ONLY_GET, f"http-request disable-l7-retry {condition}")

    assert ("retries-unsafe" not in rules(text)) is safe


def test_a_named_acl_and_several_rules_together_are_understood():
    both = "acl unsafe method POST PATCH\n    http-request disable-l7-retry if unsafe"
    split = (
        "http-request disable-l7-retry if METH_POST\n    http-request disable-l7-retry if { method PATCH }"
    )

    assert rules(GOOD.replace(ONLY_GET, both)) == {}
    assert rules(GOOD.replace(ONLY_GET, split)) == {}


def test_retries_of_a_connection_that_failed_are_harmless():
    text = GOOD.replace(ONLY_GET, "").replace("retry-on all-retryable-errors", "retry-on conn-failure")

    assert rules(text) == {}


def test_a_backend_takes_its_own_setting_before_that_of_its_defaults():
    text = GOOD.replace("defaults\n", "defaults\n    retry-on all-retryable-errors\n    retries 5\n")

    assert rules(text) == {}


def test_the_defaults_that_are_named_count_and_not_the_nearest_ones():
    named = GOOD.replace("defaults\n", "defaults tight\n").replace(
        "\nfrontend web", "\ndefaults loose\n    timeout connect 9s\n\nfrontend web"
    )

    assert "check-timeout" in rules(named)
    assert (
        rules(
            named.replace("backend pg_write\n", "backend pg_write from tight\n")
            .replace("backend web\n", "backend web from tight\n")
            .replace("default_backend pg_write from tight", "default_backend pg_write")
            .replace("default_backend web from tight", "default_backend web")
        )
        == {}
    )


def test_servers_of_a_template_are_judged_like_others():
    template = "server-template web 1-9 web.example:80 weight 1"

    assert rules(GOOD.replace("server web1 10.0.0.1:80", template, 1)) == {"weight": template}


def test_what_the_inventory_has_and_the_file_has_not_is_an_error():
    found = lint(GOOD, frozenset({"pg_write"}), {"web": ("web1", "web3"), "shop": ("a",)})

    assert [(f.rule, f.where, f.warning) for f in found] == [
        ("inventory", "backend shop", False),
        ("inventory", "backend web", False),
    ]
    assert "web3 is missing" in found[1].what


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("", ()),
        ("   # only a comment", ()),
        ("bind :80 # comment", ("bind", ":80")),
        (r"acl a path\ b", ("acl", "a", "path b")),
        (r"""a 'b # c\' "d \" e" f\#g""", ("a", "b # c\\", 'd " e', "f#g")),
        ("a ''", ("a", "")),
        ("a 'open", ("a", "open")),
    ],
)
def test_words_are_told_apart_as_haproxy_does(raw: str, words: tuple[str, ...]):
    assert words_of(raw) == words


@pytest.mark.parametrize(
    ("text", "ms"), [("500", 500), ("500ms", 500), ("2s", 2000), ("1m30s", 90000), ("soon", None), ("", None)]
)
def test_times_are_in_milliseconds(text: str, ms: float | None):
    assert time_ms(text) == ms


@given(st.text(alphabet="abz \t\n'\"\\#{}!:0123456789", max_size=300))
def test_any_text_is_read_and_judged(noise: str):
    for text in (noise, GOOD + noise, GOOD.replace("\n    ", f" {noise}\n")):
        sections = parse(text)
        lines = max(1, len(text.splitlines()))

        assert all(1 <= found.line <= lines for found in lint(text))
        assert all(line.words for section in sections for line in section.lines)


def test_the_command_says_line_measurement_and_mending(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "haproxy.cfg"
    text = GOOD.replace(ONLY_GET, "")
    file.write_text(text)
    number = text.splitlines().index("    retry-on all-retryable-errors") + 1

    status = run(["--home", str(tmp_path), "haproxy", "lint", str(file)])
    said = capsys.readouterr().out

    assert status == 2
    assert f"{file}:{number}: backend web: retry-on may deliver a POST or a PATCH twice" in said
    assert "20 POSTs were delivered 23 times" in said
    assert "mend: " in said


def test_a_file_that_is_not_there_is_a_wrong_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["haproxy", "lint", str(tmp_path / "none.cfg")]) == 2
    assert "is not there; name a configuration of HAProxy" in capsys.readouterr().err


def test_what_config_prints_passes_the_lint_of_the_same_inventory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_inventory(tmp_path)
    home, file = ["--home", str(tmp_path)], tmp_path / "haproxy.cfg"

    assert run([*home, "haproxy", "config"]) == 0
    file.write_text(capsys.readouterr().out)

    assert run([*home, "haproxy", "lint", str(file)]) == 0
    assert capsys.readouterr().out.strip() == "ok: 0 warnings"


def test_a_cluster_starts_closed_and_a_balancer_that_is_not_known_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_inventory(tmp_path)
    home = ["--home", str(tmp_path)]
    assert run([*home, "haproxy", "config"]) == 0
    text = capsys.readouterr().out
    nodes = [line for line in text.split("\nbackend pg_write\n")[1].splitlines() if "server " in line]

    assert nodes
    assert all(line.endswith(" disabled") for line in nodes if line.strip().startswith("server "))
    assert run([*home, "haproxy", "config", "--balancer", "egde"]) == 2
    assert 'no balancer "egde"' in capsys.readouterr().err
