"""What an error must not repeat: logins in connection strings. Pure.

Our own errors bear none. An action of somebody else, or a driver, may quote the string that it was given.
"""

from __future__ import annotations

import re

_IN_URL = re.compile(r"(\w[\w+.-]*://[^\s:/@'\"]*:)[^\s@'\"]+(?=@)")
_NAMED = re.compile(
    r"""(?ix) \b ( (?:ssl)?passw(?:or)?d | passphrase | secret | token | api_?key )
    ( ['"]? \s* = \s* ) ( '[^']*' | "[^"]*" | [^\s,;&)}'"]+ )"""
)


def without_credentials(text: str) -> str:
    """The text with ``***`` for the password of an URL, and for what is called a password, token or secret.

    ``redis://u:hush@h/0`` -> ``redis://u:***@h/0``; ``password=hush`` -> ``password=***``.
    """
    text = _IN_URL.sub(r"\1***", text)
    return _NAMED.sub(r"\1\2***", text)
