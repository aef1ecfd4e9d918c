"""The pages say only what is there: links, paths, verbs of make, decisions, changes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from ha_tasks.cli.root import COMMANDS
from tests.docs import pages

every_page = pytest.mark.parametrize("page", pages.pages(), ids=pages.name)

_A_PATH = re.compile(r"^[\w.-]+(/[\w.-]*)+$|^[\w-]+\.(py|toml|md|ini|lock)$|^\.\w+$")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (pages.ROOT / "Makefile").read_text(), re.MULTILINE))


@every_page
def test_every_relative_link_leads_somewhere(page: Path):
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} leads nowhere"
        if anchor and there.suffix == ".md":
            assert anchor in pages.anchors(there), f"{target}: no such heading"


@every_page
def test_every_make_target_that_a_page_names_exists(page: Path):
    named = set(pages.commands(page, "make"))

    assert named <= make_targets()


@every_page
def test_every_command_that_a_page_names_exists(page: Path):
    named = set(pages.commands(page, "ha-tasks"))

    assert named <= set(COMMANDS)


@every_page
def test_every_module_that_a_page_runs_can_be_found(page: Path):
    modules = set(re.findall(r"python -m ((?:ha_tasks|workers)[\w.]*)", page.read_text()))

    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


def test_every_path_that_the_architecture_names_exists():
    named = [span for span in pages.code_spans(pages.ROOT / "ARCHITECTURE.md") if _A_PATH.match(span)]

    assert len(named) > 20
    assert [path for path in named if not (pages.ROOT / path).exists()] == []


def test_the_architecture_names_every_part_of_the_code():
    text = (pages.ROOT / "ARCHITECTURE.md").read_text()
    parts = [d.name for d in (pages.ROOT / "ha_tasks").iterdir() if (d / "__init__.py").exists()]

    assert [part for part in sorted(parts) if f"`ha_tasks/{part}/`" not in text] == []


def test_decisions_are_numbered_without_a_gap_and_say_context_decision_and_consequence():
    decisions = sorted((pages.ROOT / "docs/adr").glob("[0-9]*.md"))

    assert [int(d.name[:4]) for d in decisions] == list(range(1, len(decisions) + 1))
    for decision in decisions:
        text = decision.read_text()
        headings = re.findall(r"^## (\w+)", text, re.MULTILINE)
        assert text.startswith(f"# {decision.name[:4]} "), decision.name
        assert headings[:3] == ["Context", "Decision", "Consequence"], decision.name


def test_the_list_of_decisions_links_to_each_of_them():
    linked = set(pages.links(pages.ROOT / "docs/adr/README.md"))

    assert {d.name for d in (pages.ROOT / "docs/adr").glob("[0-9]*.md")} <= linked


def test_the_changelog_keeps_its_form():
    text = (pages.ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))

    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", s) for s in sections[1:])
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
