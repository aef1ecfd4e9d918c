"""A real RabbitMQ for tests: on ephemeral loopback ports, unprivileged, with its own epmd, ended by pid.

Nothing of the machine's own installation is touched: data, logs, cookie and HOME are in a directory of
the test, and the port mapper is a child of the test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import amqp

from ha_tasks.embedded.unprivileged import choose, give
from tests.servers import free_port

USER = "ha"
PASSWORD = "pass-for-this-test-only"
SCRIPT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Not the one in /usr/sbin: that changes to the user and the directories of the service."""
EPMD = "/usr/bin/epmd"


@dataclass
class RabbitmqServer:
    """It may be killed, paused and started again on the same ports; what it kept is kept, or wiped."""

    home: Path
    port: int = 0
    epmd_port: int = 0
    dist_port: int = 0
    process: subprocess.Popen[bytes] | None = None
    epmd: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home / "rabbitmq.log"

    @property
    def url(self) -> str:
        """Without the password."""
        return f"amqp://{USER}@127.0.0.1:{self.port}//"

    @property
    def secret_url(self) -> str:
        """With the password."""
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}//"

    def connect(self, timeout_s: float = 2.0) -> amqp.Connection:
        """An open connection."""
        connection = amqp.Connection(
            host=f"127.0.0.1:{self.port}", userid=USER, password=PASSWORD, connect_timeout=timeout_s
        )
        try:
            connection.connect()
        except Exception:
            connection.collect()
            raise
        return connection

    def prepare(self) -> None:
        """Its own cookie and configuration. Idempotent."""
        self.home.chmod(0o711)
        way = choose(os.geteuid())
        for name in ("mnesia", "home", "config"):
            directory = self.home / name
            directory.mkdir(exist_ok=True)
            give(directory, way)
        cookie = self.home / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(os.urandom(16).hex())
            cookie.chmod(0o400)
            give(cookie, way)
        (self.home / "config" / "rabbitmq.conf").write_text(
            f"default_user = {USER}\ndefault_pass = {PASSWORD}\n"
            "loopback_users = none\nlog.file = false\nlog.console = true\nlog.console.level = warning\n"
            "disk_free_limit.absolute = 1MB\n"
        )
        (self.home / "config" / "enabled_plugins").write_text("[].\n")

    def start(self, within_s: float = 60.0) -> None:
        """Returns once it takes connections."""
        self.prepare()
        for name in ("port", "epmd_port", "dist_port"):
            setattr(self, name, getattr(self, name) or free_port())
        deadline = time.monotonic() + within_s
        if self.epmd is None:
            self._start_epmd(deadline)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*choose(os.geteuid()).prefix, SCRIPT],
                env=self._environment(),
                cwd=self.home / "home",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its helpers share its group, so that all of them are paused and ended together.
                start_new_session=True,
            )
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def _start_epmd(self, deadline: float) -> None:
        """In the foreground, before the broker: otherwise erl would leave a daemon behind."""
        command = [EPMD, "-port", str(self.epmd_port), "-address", "127.0.0.1"]
        quiet = subprocess.DEVNULL
        self.epmd = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        while not _listens(self.epmd_port):
            assert time.monotonic() < deadline, "epmd did not come up"
            time.sleep(0.02)

    def _environment(self) -> dict[str, str]:
        config = self.home / "config"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home / "home"),
            # It replaces the shell, so that our child's pid is that of the broker.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"ha{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "home"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(config / "none"),
            "RABBITMQ_CONFIG_FILE": str(config / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(config / "enabled_plugins"),
            # Two cores are shared with the tests: busy-waiting schedulers would take them.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def answers(self) -> bool:
        """True when it takes a login."""
        try:
            self.connect(timeout_s=2.0).close()
        except (OSError, amqp.exceptions.AMQPError):
            return False
        return True

    def pause(self) -> None:
        """It keeps its sockets and says nothing."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def retire(self, within_s: float = 15.0) -> None:
        """As a service is stopped. A crash within seconds of a queue's declaration would lose the queue."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(within_s)
        self.process = None

    def stop(self) -> None:
        """At once, as a crash would. Idempotent."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait(10)
        self.process = None

    def wipe(self) -> None:
        """Forgets everything; only while it is stopped."""
        shutil.rmtree(self.home / "mnesia")

    def close(self) -> None:
        """Ends the broker and its port mapper. Idempotent."""
        self.stop()
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait(5)
        self.epmd = None

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def rabbitmq_server(home: Path) -> Iterator[RabbitmqServer]:
    """A server that runs as long as the block."""
    server = RabbitmqServer(home)
    try:
        server.start()
        yield server
    finally:
        server.close()
