"""How far a step is that runs, in words."""

from __future__ import annotations

from ha_tasks.cli.lines import amount
from ha_tasks.model.plain import Json
from ha_tasks.model.progress import progress_in


def in_words(output: Json) -> str:
    """``base backup from pg2, 35 % (1.2 GB of 3.4 GB)``; '' when the step tells nothing of it."""
    progress = progress_in(output)
    if progress is None:
        return ""
    if progress.done_bytes is None:
        return progress.doing
    if progress.percent is None:
        return f"{progress.doing}, {amount(progress.done_bytes)}"
    there, whole = amount(progress.done_bytes), amount(progress.of_bytes)
    return f"{progress.doing}, {progress.percent} % ({there} of {whole})"
