"""agent.toml is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from ha_tasks.errors import UsageError
from workers.agent.config import load_config
from workers.agent.verbs import NODE_VERBS

HEAD = """\
schema = 1
host = "pg1"
listen = "127.0.0.1:7101"
key = { file = "secrets/agent-key" }
state_dir = "state"
"""
POSTGRES = """\
[postgres]
node = "pg1"
bin_dir = "/usr/lib/postgresql/15/bin"
data_dir = "data"
conf_dir = "conf"
address = "127.0.0.1:5431"
superuser = "postgres"
password = { file = "secrets/agent-key" }
replication_user = "ha_repl"
passfile = "passfile"
[postgres.peers]
pg2 = "127.0.0.1:5432"
"""
UNIT = '[units.web1]\ncommand = ["web"]\n'


def load(directory: Path, text: str):
    (directory / "secrets").mkdir()
    (directory / "secrets" / "agent-key").write_text("a secret of more than sixteen bytes\n")
    (directory / "agent.toml").write_text(text)
    return load_config(directory / "agent.toml")


def test_paths_are_relative_to_the_file(tmp_path):
    config = load(tmp_path, HEAD + POSTGRES + UNIT)

    assert config.state_dir == tmp_path / "state"
    assert config.postgres.data_dir == tmp_path / "data"
    assert config.units["web1"].cwd == tmp_path
    assert config.postgres.peers == {"pg2": "127.0.0.1:5432"}


def test_secrets_are_read_and_never_shown(tmp_path):
    config = load(tmp_path, HEAD + POSTGRES)

    assert config.key == b"a secret of more than sixteen bytes"
    assert "secret of" not in repr(config)


def test_a_secret_may_come_from_the_environment_or_a_command(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_KEY", "sixteen letters!")
    text = HEAD.replace('{ file = "secrets/agent-key" }', '{ env = "AGENT_KEY" }')
    by_command = POSTGRES.replace('{ file = "secrets/agent-key" }', '{ command = ["echo", "word"] }')

    config = load(tmp_path, text + by_command)

    assert (config.key, config.postgres.password) == (b"sixteen letters!", "word")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (HEAD, frozenset()),
        (HEAD + UNIT, {"restart"}),
        (HEAD + POSTGRES, set(NODE_VERBS)),
        (HEAD + POSTGRES + UNIT, {*NODE_VERBS, "restart"}),
        (HEAD + 'allow = ["fence", "revoke"]\n' + POSTGRES, {"fence", "revoke"}),
        (HEAD + "allow = []\n" + POSTGRES, frozenset()),
    ],
)
def test_an_agent_is_allowed_what_it_needs_or_what_is_said(tmp_path, text, allowed):
    assert load(tmp_path, text).allow == allowed


def test_the_role_of_an_earlier_file_is_still_understood(tmp_path):
    assert load(tmp_path, HEAD + POSTGRES).postgres.user == "postgres"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "schema must be 1"),
        ('host = "pg1"\n', "", "host is missing"),
        ('host = "pg1"', "host = 1", "host must be str"),
        ('host = "pg1"', 'host = "pg1"\nhostess = "x"', "hostess is unknown"),
        ("127.0.0.1:7101", "7101", "listen not an address"),
        ('{ file = "secrets/agent-key" }\nstate', '{ file = "none" }\nstate', "cannot be read"),
        ('{ file = "secrets/agent-key" }\nstate', '{ vault = "x" }\nstate', "key.vault is unknown"),
        (
            '{ file = "secrets/agent-key" }\nstate',
            '{ command = ["echo", "short"] }\nstate',
            "shorter than 16",
        ),
        ('{ file = "secrets/agent-key" }\nstate', '{ command = ["false"] }\nstate', "CalledProcessError"),
        ('passfile = "passfile"', 'passfiles = "x"', "postgres.passfile is missing"),
        ('node = "pg1"', 'node = "pg1"\nport = 1', "postgres.port is unknown"),
        ('pg2 = "127.0.0.1:5432"', 'pg1 = "127.0.0.1:5432"', "is the node itself"),
        ('pg2 = "127.0.0.1:5432"', "pg2 = 5432", "postgres.peers.pg2 must be str"),
        ('command = ["web"]', "command = [1]", "units.web1.command must be a list of strings"),
        ('command = ["web"]', "autostart = true", "either command or systemd"),
        ('command = ["web"]', 'command = ["web"]\nsystemd = "w"', "either command or systemd"),
        ("[units.web1]", '[units."a/b"]', "only letters"),
        ("schema = 1", "schema =", "agent.toml"),
        ("schema = 1", 'schema = 1\nallow = ["drop"]', "allow names drop, which is none of"),
        ('superuser = "postgres"\n', "", "postgres.user is missing"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, said):
    text = HEAD + POSTGRES + UNIT
    assert old in text

    with pytest.raises(UsageError) as raised:
        load(tmp_path, text.replace(old, new, 1))

    assert said in str(raised.value)
