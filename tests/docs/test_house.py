"""The house rules that a machine can see; ruff, mypy and import-linter see the others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from tests.docs import pages

LONG, LONG_TEST = 400, 700
"""Lines; a longer file wants to be two."""

EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|stuff)(_|$)")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (pages.ROOT / folder).rglob("*.py"))


PRODUCT = [*sources("ha_tasks", "workers", "scripts"), pages.ROOT / "beat_schedule.py"]
TESTS = sources("tests")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without the docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_the_first_line_of_every_file_says_what_it_is():
    dumb = []
    for path in [*PRODUCT, *TESTS]:
        text = path.read_text()
        said = ast.get_docstring(ast.parse(text)) if text else "nothing is in it"
        if not said or len(said.splitlines()[0]) < 5:
            dumb.append(pages.name(path))

    assert dumb == []


def test_no_file_is_too_long():
    limits = dict.fromkeys(PRODUCT, LONG) | dict.fromkeys(TESTS, LONG_TEST)
    lengths = {path: len(path.read_text().splitlines()) for path in limits}

    assert {pages.name(p): lines for p, lines in lengths.items() if lines > limits[p]} == {}


def test_no_file_has_a_name_that_says_nothing():
    assert [pages.name(p) for p in [*PRODUCT, *TESTS] if EMPTY_NAMES.search(p.stem)] == []


def test_functions_are_short():
    lengths = [body_lines(f) for path in PRODUCT for f in functions(path)]

    assert median(lengths) <= 8
    assert quantiles(lengths, n=10)[-1] <= 20


def test_the_name_of_every_test_is_a_sentence():
    tests = [f.name for path in TESTS for f in functions(path) if f.name.startswith("test_")]

    assert [name for name in tests if len(name.split("_")) < 3] == []


def sleeps(tree: ast.AST, looping: bool = False) -> Iterator[bool]:
    """For each call of time.sleep: whether it stands in a loop, which looks at a condition again."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}:
            yield looping
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from sleeps(node, not function and (looping or isinstance(node, ast.While | ast.For)))


def test_nothing_sleeps_blindly():
    clock = pages.ROOT / "ha_tasks/adapters/clock.py"
    blind = [p for p in PRODUCT if p != clock and not all(sleeps(ast.parse(p.read_text())))]

    assert [pages.name(p) for p in blind] == []


def test_tests_patch_nothing_of_ours():
    patching = re.compile(r"unittest\.mock|\bMock\(|mocker\b|setattr\(\s*[\"']?(ha_tasks|workers)")

    assert [pages.name(p) for p in TESTS if p != Path(__file__) and patching.search(p.read_text())] == []


def test_the_command_line_imports_nothing_heavy():
    heavy = {"celery", "kombu", "sqlalchemy", "psycopg", "pydantic", "flower", "rich"}
    code = "import sys, ha_tasks.cli; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, cwd=pages.ROOT)

    assert heavy & set(done.stdout.split()) == set()
