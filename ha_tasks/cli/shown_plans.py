"""Plans that were shown, kept in the home, so that ``recover --plan`` can say what has changed since."""

from __future__ import annotations

import json
from pathlib import Path

from ha_tasks.model.plan_hash import hash_word, plan_hash
from ha_tasks.model.playbook import Plan

KEPT = 50


def keep(home: Path, plan: Plan) -> bool:
    """Keeps the plan under its hash, the latest 50 of all. False when the home cannot be written to.

    Neither the store nor anything that is protected is touched.
    """
    from ha_tasks.store.plans import plan_to_json

    try:
        folder = home / "plans"
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / f"{plan_hash(plan)}.json"
        file.write_text(json.dumps(plan_to_json(plan)), "utf-8")
        for old in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:  # a home that is read-only shows plans as well as any other
        return False
    return True


def recall(home: Path, word: str) -> Plan | None:
    """The one plan whose hash begins so; None when none or more than one was shown here."""
    from ha_tasks.store.plans import plan_from_json

    found = sorted((home / "plans").glob(f"{hash_word(word)}*.json"))
    if len(found) != 1:
        return None
    try:
        return plan_from_json(json.loads(found[0].read_text("utf-8")))
    except (OSError, ValueError, KeyError):  # half written, or of another version: as good as none
        return None
