"""Answers of HAProxy's runtime API, as 2.6.12 and 2.8.25 really give them."""

from __future__ import annotations

import pytest

from ha_tasks.adapters.haproxy_replies import admin_state, complaint, parse_servers
from ha_tasks.errors import BalancerError
from ha_tasks.model.balancer import ServerState

_STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port \
srv_check_addr srv_agent_addr srv_agent_port
3 pg_write 1 pg1 127.0.0.1 0 0 100 100 1 8 2 0 6 0 0 0 - 28101 - 0 0 - - 0
3 pg_write 2 pg2 127.0.0.1 2 4 100 100 0 1 0 0 8 0 0 0 - 28102 - 0 0 - - 0
3 pg_write 3 pg3 ::1 2 8 50 100 0 1 0 2 0 0 0 0 - 28103 - 0 0 - - 0


"""
_STATS_26 = """# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,status,weight,last_chk,
pg_write,pg1,0,0,7,9,,12,0,0,DOWN,100,Connection refused,
pg_write,pg2,0,0,,0,,0,0,0,no check,100,"a, quoted one",

"""
_STATS_28 = _STATS_26.replace(",last_chk,", ",last_chk,-,ssl_sess,").replace("refused,", "refused,-,0,")


@pytest.mark.parametrize("stats", [_STATS_26, _STATS_28], ids=["2.6", "2.8"])
def test_states_and_sessions_are_read_by_column_name(stats: str) -> None:
    one, two, three = parse_servers(_STATES + stats)

    assert (one.server, one.admin, one.up, one.sessions) == ("pg1", ServerState.READY, False, 7)
    assert (two.server, two.admin, two.up, two.sessions) == ("pg2", ServerState.READY, True, 0)
    assert (three.server, three.admin, three.up) == ("pg3", ServerState.DRAIN, True)
    assert (one.address, three.address, three.weight) == ("127.0.0.1:28101", "[::1]:28103", 50)
    assert {s.backend for s in (one, two, three)} == {"pg_write"}


def test_a_column_that_a_later_version_puts_in_between_does_no_harm() -> None:
    later = _STATES.replace("srv_op_state ", "srv_new srv_op_state ").replace("127.0.0.1 ", "127.0.0.1 x ")

    assert [s.up for s in parse_servers(later)][:2] == [False, True]


def test_states_without_statistics_have_no_sessions() -> None:
    assert [s.sessions for s in parse_servers(_STATES)] == [0, 0, 0]


@pytest.mark.parametrize("reply", ["Permission denied\n\n", "Can't find backend.\n\n", "\n"])
def test_a_complaint_instead_of_the_list_is_an_error(reply: str) -> None:
    with pytest.raises(BalancerError, match="did not list"):
        parse_servers(reply)


@pytest.mark.parametrize(
    ("bits", "state"),
    [
        (0x00, ServerState.READY),
        (0x01, ServerState.MAINT),
        (0x05, ServerState.MAINT),  # disabled in the configuration
        (0x04, ServerState.READY),  # disabled there, and made ready since
        (0x08, ServerState.DRAIN),
        (0x09, ServerState.MAINT),
        (0x02, ServerState.READY),  # inherited from a tracked server: no command lifts it
        (0x20, ServerState.READY),  # its name does not resolve: as above
    ],
)
def test_the_forced_bits_make_the_administrative_state(bits: int, state: ServerState) -> None:
    assert admin_state(bits) is state


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("\n", None),
        ("\n\n", None),
        ("No such server.\n\n", "No such server."),
        ("Unknown command: 'x', but maybe\n  help\n", "Unknown command: 'x', but maybe"),
    ],
)
def test_an_empty_line_is_success_and_text_is_a_complaint(reply: str, expected: str | None) -> None:
    assert complaint(reply) == expected
