"""TLS to the broker and to the store: whose certificates count, in the words of each driver.

For a broker the settings travel in the URL's query (``ssl_...``, as redis-py and Kombu read them), so
that whoever is handed the URL verifies. They are paths and never secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SECURE_BROKERS = ("rediss", "amqps")
_PREFIX = "ssl_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """``ca`` None: the authorities that the machine trusts. ``certificate`` and ``key`` are the client's own.

    ``verify`` False encrypts and trusts anybody; it has to be said, it is never a default.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True

    def broker_query(self) -> dict[str, str]:
        """For redis-py and Kombu. Kombu alone would not verify a ``rediss`` URL that says nothing."""
        said = {
            "cert_reqs": "required" if self.verify else "none",
            "check_hostname": "true" if self.verify else "false",
            "ca_certs": self.ca,
            "certfile": self.certificate,
            "keyfile": self.key,
        }
        return {f"{_PREFIX}{name}": value for name, value in said.items() if value is not None}

    def store_query(self) -> dict[str, str]:
        """For libpq. ``sslrootcert=system`` is the machine's authorities; libpq knows it since 16."""
        said = {
            "sslmode": "verify-full" if self.verify else "require",
            "sslrootcert": (self.ca or "system") if self.verify else None,
            "sslcert": self.certificate,
            "sslkey": self.key,
        }
        return {name: value for name, value in said.items() if value is not None}


def with_query(url: str, query: Mapping[str, str]) -> str:
    """The URL with these keys in its query; those that it has itself win. Several URLs: each of them."""
    return ";".join(_with_query(each, query) for each in url.split(";"))


def _with_query(url: str, query: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    merged = {**query, **dict(parse_qsl(parts.query, keep_blank_values=True))}
    return urlunsplit(parts._replace(query=urlencode(merged, safe="/")))


def taken_out(url: str) -> tuple[str, Tls | None]:
    """The URL of a broker without its TLS settings, and these; None where nothing is encrypted."""
    parts = urlsplit(url)
    if parts.scheme not in SECURE_BROKERS:
        return url, None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    said = {key.removeprefix(_PREFIX): query.pop(key) for key in list(query) if key.startswith(_PREFIX)}
    tls = Tls(
        ca=said.get("ca_certs"),
        certificate=said.get("certfile"),
        key=said.get("keyfile"),
        verify=said.get("cert_reqs") != "none",
    )
    return urlunsplit(parts._replace(query=urlencode(query, safe="/"))), tls


def amqp_options(tls: Tls, host: str) -> dict[str, Any]:
    """For py-amqp, which by itself compares no host name. ``cert_reqs`` is ssl.VerifyMode's number."""
    said: dict[str, Any] = {
        "cert_reqs": 2 if tls.verify else 0,
        "ca_certs": tls.ca,
        "certfile": tls.certificate,
        "keyfile": tls.key,
        "server_hostname": host if tls.verify else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def mending(said: str, section: str) -> str:
    """What mends a refusal that is about TLS, by the words of OpenSSL and libpq; '' for any other."""
    lowered = said.lower()
    for words, remedy in _BY_WORD:
        if any(word in lowered for word in words):
            return remedy.format(section=section)
    return ""


_BY_WORD = (
    (
        ("does not match host name", "hostname mismatch", "ip address mismatch", "is not valid for"),
        "the certificate is for another name: write that name in {section}.url, or give the server "
        "a certificate for this one",
    ),
    (
        ("certificate has expired", "not yet valid"),
        "renew the server's certificate, and look at both clocks",
    ),
    (
        ("certificate verify failed", "self-signed", "self signed", "unable to get local issuer"),
        "is {section}.tls.ca the authority that signed the server's certificate?",
    ),
    (
        ("certificate required", "valid client certificate", "handshake failure", "bad certificate",
         "unknown ca"),
        "the server wants a certificate of ours: {section}.tls.certificate and {section}.tls.key",
    ),
    (
        ("wrong version number", "record layer failure", "does not support ssl"),
        "nobody speaks TLS there: is it the server's TLS port, and is TLS switched on?",
    ),
    (("no encryption", "hostssl", "server requires ssl"), "the server demands TLS: add [{section}.tls]"),
)  # fmt: skip
