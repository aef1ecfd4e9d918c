"""The verbs of an agent: what a request may ask for, and what a configuration may allow."""

from __future__ import annotations

from collections.abc import Mapping

NODE_VERBS: Mapping[str, tuple[str, ...]] = {
    "fence": (),
    "revoke": (),
    "follow": ("upstream",),
    "promote": ("sync_setting",),
    "set_sync": ("sync_setting",),
    "start_primary": ("sync_setting",),
    "start_standby": ("upstream",),
    "rejoin": ("upstream", "job"),
    "stop": (),
    "demote": ("upstream",),
    "restart_standby": ("key",),
    "drop_slot": ("slot",),
}
"""Verbs of a node and their arguments, all strings, besides epoch, fence and timeout_s."""
UNIT_VERB = "restart"
"""Of a unit; its arguments are key and fence, besides timeout_s."""
KEEP_FILE, PUT_FILE = "keep_file", "put_file"
"""Of a versioned file: keeping what it holds now (argument staged), and putting a kept content into its place
(digest, key and fence, besides timeout_s)."""
FILE_VERBS = frozenset({KEEP_FILE, PUT_FILE})
STANDING = "standing"
"""What the store says, told to a node's agent: no command, and not to be allowed or refused. Its arguments
are epoch, primary and steady."""
VERBS = frozenset({*NODE_VERBS, UNIT_VERB, *FILE_VERBS})
