"""What databases say of themselves, judged."""

from __future__ import annotations

import pytest

from ha_tasks.adapters.redis_depth import fields
from ha_tasks.model.database_health import PostgresPressure, postgres_examined, redis_examined

WELL = {
    "role": "master",
    "connected_clients": "10",
    "maxclients": "100",
    "used_memory": "50",
    "maxmemory": "100",
    "maxmemory_policy": "noeviction",
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
    "loading": "0",
    "connected_slaves": "1",
}


@pytest.mark.parametrize(
    ("sessions", "age", "ill"),
    [
        (10, 200_000_000, {}),
        (85, 200_000_000, {}),
        (97, 200_000_000, {"connections": "97 of 100 sessions are taken"}),
        (10, 2_000_000_000, {"transaction ids": "the oldest database is 2,000,000,000 transactions old"}),
    ],
)
def test_postgresql_needs_room_for_sessions_and_for_transactions(sessions, age, ill):
    found = postgres_examined(
        "db/pg1", PostgresPressure(sessions=sessions, most_sessions=100, oldest_xid_age=age)
    )

    bad = {each.check: each for each in found if not each.well}
    assert bad.keys() == ill.keys()
    assert all(bad[check].problem.startswith(problem) for check, problem in ill.items())
    assert all(each.score < 0.8 and each.remedy for each in bad.values())


@pytest.mark.parametrize(
    ("said", "check", "score"),
    [
        ({}, None, None),
        ({"connected_clients": "99"}, "connections", pytest.approx(0.0533, abs=0.001)),
        ({"used_memory": "99"}, "memory", pytest.approx(0.08)),
        ({"used_memory": "99", "maxmemory_policy": "allkeys-lru"}, None, None),
        ({"used_memory": "99", "maxmemory": "0"}, None, None),
        ({"role": "slave", "master_link_status": "down"}, "replication", 0.5),
        ({"role": "slave", "master_link_status": "up"}, None, None),
        ({"rdb_last_bgsave_status": "err"}, "persistence", 0.5),
        ({"aof_last_write_status": "err"}, "persistence", 0.5),
        ({"loading": "1"}, "persistence", 0.0),
    ],
)
def test_redis_is_judged_by_what_info_says(said, check, score):
    bad = {each.check: each for each in redis_examined("cache/c1", {**WELL, **said}) if not each.well}

    assert list(bad) == ([check] if check else [])
    if check:
        assert bad[check].score == score
        assert bad[check].remedy


def test_what_a_version_does_not_say_is_not_judged():
    assert all(each.well for each in redis_examined("cache/c1", {"role": "master"}))


def test_info_is_read_line_by_line():
    assert fields("# Server\r\nrole:master\r\n\r\nexecutable:/a:b\r\n") == {
        "role": "master",
        "executable": "/a:b",
    }
