"""What the client of the host agents says of an answer that it cannot believe."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from ha_tasks.adapters.host_agent import HostAgents
from ha_tasks.errors import AgentUnreachable
from tests.scripted_server import say, scripted


@pytest.mark.parametrize(
    ("date", "said"),
    [
        (-90, "s behind ours: set both by NTP"),
        (90, "s ahead of ours: set both by NTP"),
        (-20, "it has another key"),
        (None, "it has another key"),
    ],
)
def test_a_refused_signature_is_the_clock_s_fault_or_the_key_s(date, said):
    header = b"" if date is None else f"Date: {formatdate(time.time() + date, usegmt=True)}\r\n".encode()
    answer = b"HTTP/1.0 401 Unauthorized\r\n" + header + b"Content-Length: 2\r\n\r\n{}"
    with scripted(say(answer)) as address:
        agents = HostAgents(
            urls={"db1": f"http://{address}"}, hosts={"pg1": "db1"}, key=b"sixteen bytes or so"
        )

        with pytest.raises(AgentUnreachable, match=said):
            agents.status("pg1", timeout_s=2.0)
