"""The forms that values of ha-tasks.toml have: names, addresses, URLs.

Each function answers the value when it is well formed, else raises ``ValueError(problem, mending)``.
None repeats an URL: it could bear a password.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from ha_tasks.model.action import is_own_name
from ha_tasks.model.event import TOLD

NAME_PATTERN = r"^[a-zA-Z][a-zA-Z0-9_-]{0,62}$"
_NAME = re.compile(NAME_PATTERN)
_EVENT_STATE = re.compile(r"^[a-z_*]+$")
_LABEL = re.compile(r"^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$")
_POSTGRES_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
BROKER_SCHEMES = ("redis", "rediss", "sentinel", "amqp", "amqps")
SQLITE = "sqlite:///"
POSTGRESQL = "postgresql+psycopg://"


def name(value: str) -> str:
    """A name becomes a metric label, a server name in HAProxy and a part of file names."""
    if not _NAME.match(value):
        raise ValueError(
            "is no name that can be used",
            "begin with a letter, go on with letters, digits, _ or -, 63 at most",
        )
    return value


def own_action(value: str) -> str:
    """The name of one's own action has a dot in it."""
    if not is_own_name(value):
        raise ValueError("is no name of one's own action", 'like [actions."acme.cdn_mode"]')
    return value


def postgres_name(value: str) -> bool:
    """True when it can stand in ``synchronous_standby_names`` and name a replication slot, unquoted."""
    return bool(_POSTGRES_NAME.match(value))


def address(value: str) -> str:
    """``host:port``; an IPv6 host stands in brackets."""
    host, _, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed) or "/" in host or not _is_port(port):
        raise ValueError("is no address", "write host:port, like 10.0.0.5:8101 or [::1]:8101")
    return value


def host_name(value: str) -> str:
    """A name that a name server may know."""
    labels = value.removesuffix(".").split(".")
    if len(value) > 253 or not all(_LABEL.match(label) for label in labels):
        raise ValueError("is no name of a host", "write it like db.example.org, without scheme and port")
    return value


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def split(value: str) -> SplitResult | None:
    """The parts of an URL; None when it is none (a port out of range included)."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme else None


def web_url(value: str) -> str:
    """``http://host:port/path`` or https."""
    parts = split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no http or https URL", "write it like http://10.0.0.5:7100")
    if parts.username or parts.password:
        raise ValueError("bears a user or a password", "take them out of the URL")
    return value


def event_pattern(value: str) -> str:
    """``*``, or a pattern of verbs that can be told: ``incident.*``, ``run.succeeded``."""
    noun, dot, state = value.partition(".")
    known = [told.partition(".")[0] for told in TOLD]
    if value == "*" or (noun in known and dot and _EVENT_STATE.match(state)):
        return value
    raise ValueError("is no pattern of events", f"like {', '.join(TOLD)}, run.succeeded or *")


def socket(value: str) -> str:
    """``tcp://host:port`` or ``unix:///path``: the runtime API of HAProxy."""
    parts = split(value)
    if parts is not None and parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return value
    if parts is not None and parts.scheme == "tcp" and parts.hostname and parts.port and not parts.path:
        return value
    raise ValueError("is no socket", "write tcp://host:port or unix:///path/of/haproxy.sock")


def store_url(value: str) -> str:
    """``sqlite:///path`` or ``postgresql+psycopg://user@host/database``."""
    _must_bear_no_secret(value)
    if value.startswith(SQLITE) and len(value) > len(SQLITE):
        return value
    parts = split(value)
    if value.startswith(POSTGRESQL) and parts is not None and parts.hostname and len(parts.path) > 1:
        return value
    raise ValueError(
        "is no URL of a state store",
        'write "sqlite:///ha.db" or "postgresql+psycopg://user@host/database"',
    )


def _must_bear_no_secret(value: str) -> None:
    """A query is shown, logged and kept, unlike the password in front of the host."""
    for key in ("password", "sslpassword", "sentinel_password"):
        if f"{key}=" in value.partition("?")[2]:
            raise ValueError(
                f"bears {key} in its query", 'take it out and add: password = { file = "secrets/..." }'
            )


def broker_url(value: str) -> str:
    """``redis://host:port/0`` (rediss, sentinel, amqp, amqps). One URL: a list is written as a list."""
    _must_bear_no_secret(value)
    parts = split(value)
    if parts is None or parts.scheme not in BROKER_SCHEMES or not parts.hostname or ";" in value:
        raise ValueError(
            f"is no URL of a broker ({', '.join(BROKER_SCHEMES)})", 'write it like "redis://10.0.0.5:6379/0"'
        )
    return value


def broker_urls(value: str | list[str]) -> str | list[str]:
    """One URL of a broker, or a list of them."""
    for url in [value] if isinstance(value, str) else value:
        broker_url(url)
    if not value:
        raise ValueError("is empty", 'write it like "redis://10.0.0.5:6379/0"')
    return value


def host_of(value: str) -> str:
    """The host of an address or URL, '' when it has none."""
    parts = split(value) if "://" in value else split(f"tcp://{value}")
    return (parts.hostname or "") if parts else ""


def is_loopback(host: str) -> bool:
    """True for this machine's own names and addresses."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
