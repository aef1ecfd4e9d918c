"""docs/reference/metrics.md is made from the catalogue."""

from __future__ import annotations

from pathlib import Path

from ha_tasks.monitoring.prometheus import CATALOGUE
from ha_tasks.monitoring.reference import page

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"


def test_the_reference_of_the_metrics_is_not_stale():
    told = "write it anew: .venv/bin/python -m ha_tasks.monitoring.reference > docs/reference/metrics.md"

    assert PAGE.read_text() == page(), told


def test_every_metric_is_on_the_page():
    assert all(f"| `{definition.name}` |" in page() for definition in CATALOGUE)
