"""TLS to RabbitMQ: HAProxy speaks it in front of a real RabbitMQ, as it may in production."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu.exceptions
import pytest

from ha_tasks.embedded.binaries import resolve
from tests.certificates import HERE, Authority, Pair
from tests.rabbitmq_server import PASSWORD, USER, RabbitmqServer, rabbitmq_server
from tests.servers import free_port
from tests.tls_inventory import ANOTHER_CA, ANOTHER_NAME, await_port, look, refusal, send, with_broker

pytestmark = pytest.mark.needs("rabbitmq", "openssl")


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    with rabbitmq_server(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def in_front(home: Path, rabbit: RabbitmqServer, pair: Pair) -> Iterator[int]:
    """HAProxy, which speaks TLS with clients and plain text with RabbitMQ behind it."""
    port, conf = free_port(), home / "haproxy.cfg"
    conf.write_text(
        "defaults\n mode tcp\n timeout connect 1s\n timeout client 60s\n timeout server 60s\n"
        f"listen amqps\n bind 127.0.0.1:{port} ssl crt '{pair.together}'\n"
        f" server rabbit 127.0.0.1:{rabbit.port}\n"
    )
    proxy = subprocess.Popen([resolve("haproxy").path, "-db", "-f", conf], stderr=subprocess.DEVNULL)
    try:
        await_port(port)
        yield port
    finally:
        proxy.kill()
        proxy.wait(5)


def test_the_right_authority_opens_and_another_one_or_none_does_not(
    tmp_path: Path, rabbit: RabbitmqServer, authority: Authority
) -> None:
    stranger = Authority(tmp_path, "stranger")
    with in_front(tmp_path, rabbit, authority.issue("here", *HERE)) as port:
        url = f"amqps://{USER}@127.0.0.1:{port}//"
        right = with_broker(tmp_path / "right", url, password=PASSWORD, tls=f'ca = "{authority.pem}"')
        send(right)
        assert look(right) == 1

        for name, tls in (("wrong", f'ca = "{stranger.pem}"'), ("none", "")):
            inventory = with_broker(tmp_path / name, url, password=PASSWORD, tls=tls)
            said = refusal(inventory)
            with pytest.raises(kombu.exceptions.OperationalError, match="certificate verify failed"):
                send(inventory)
            assert ANOTHER_CA.format("broker") in said
            assert PASSWORD not in said


def test_a_certificate_for_another_name_is_refused_though_py_amqp_would_not_look(
    tmp_path: Path, rabbit: RabbitmqServer, authority: Authority
) -> None:
    with in_front(tmp_path, rabbit, authority.issue("elsewhere", "DNS:broker.example.org")) as port:
        url, tls = f"amqps://{USER}@127.0.0.1:{port}//", f'ca = "{authority.pem}"'
        inventory = with_broker(tmp_path / "home", url, password=PASSWORD, tls=tls)

        assert ANOTHER_NAME.format("broker") in refusal(inventory)
        with pytest.raises(kombu.exceptions.OperationalError, match=r"[Mm]ismatch|not valid for"):
            send(inventory)
