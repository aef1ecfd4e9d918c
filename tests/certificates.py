"""An authority of a test's own, made when the test runs: nothing of it is kept anywhere."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
HERE = ("IP:127.0.0.1", "DNS:localhost")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, and both in one file, as HAProxy wants them."""

    certificate: Path
    key: Path
    together: Path


class Authority:
    """Signs certificates. ``pem`` is what others must trust."""

    def __init__(self, home: Path, name: str = "authority") -> None:
        self._home = home
        self._name = name
        self.pem = home / f"{name}.pem"
        self._key = home / f"{name}.key"
        subject = ("-subj", f"/CN={name}")
        _openssl("req", "-x509", *_KEY, "-days", "2", *subject, "-keyout", self._key, "-out", self.pem)

    def issue(self, name: str, *alternatives: str) -> Pair:
        """A certificate for these names (``IP:...``, ``DNS:...``), or for a client when there are none."""
        stem = self._home / f"{self._name}-{name}"
        made = Pair(stem.with_suffix(".crt"), stem.with_suffix(".key"), stem.with_suffix(".both"))
        request = stem.with_suffix(".csr")
        said = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        _openssl("req", *_KEY, "-subj", f"/CN={name}", *said, "-keyout", made.key, "-out", request)
        signer = ("-CA", self.pem, "-CAkey", self._key, "-CAcreateserial", "-copy_extensions", "copy")
        _openssl("x509", "-req", "-in", request, *signer, "-days", "2", "-out", made.certificate)
        made.key.chmod(0o600)
        made.together.write_text(made.certificate.read_text() + made.key.read_text())
        made.together.chmod(0o600)
        return made


def _openssl(*arguments: object) -> None:
    done = subprocess.run(
        [shutil.which("openssl") or "openssl", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
