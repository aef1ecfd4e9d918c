"""The root of the command line: which commands there are, and how an error ends."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ha_tasks import __version__
from ha_tasks.cli.session import Session
from ha_tasks.errors import HaTasksError

INTERRUPTED = 130

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("demo", "Start, or stop, a whole platform with its guardian on this machine."),
    "doctor": ("doctor", "Which server programs were found, and what mends what is missing."),
    "init": ("init", "Write a commented ha-tasks.toml to begin with."),
    "check": ("check", "Say every fault of ha-tasks.toml and of the playbooks; --connect asks the servers."),
    "apply": (
        "apply",
        "Show what ha-tasks.toml changes and touches, then make it the applied one.",
    ),
    "status": ("status", "What is broken, since when, what is being done, what you can do."),
    "replication": (
        "replication",
        "Ask a PostgreSQL cluster now: who follows whom, lag, slots, the synchronous set, data at risk.",
    ),
    "incidents": ("incidents", "The latest incidents, or one with its story."),
    "run": ("runs", "A recovery: its steps, what became of them, every attempt."),
    "plan": ("plan", "What a recovery of a service would do now; changes nothing."),
    "recover": ("recover", "Look at a service and recover what has failed; --local needs no broker."),
    "switchover": ("switchover", "Hand a healthy PostgreSQL primary's work to a standby, without loss."),
    "rolling-restart": (
        "rolling_restart",
        "Restart the nodes that wait for it, standbys first, the primary by a switchover.",
    ),
    "versions": ("versions", "What a service is served from: list its versions, or record one."),
    "rollback": (
        "rollback",
        "Have a service served from another version of its files, proved or taken back.",
    ),
    "drill": ("drill", "Rehearse a disaster on the demo platform, measure it and judge it."),
    "approve": ("approve", "Say yes, or no, to a recovery that waits for a person."),
    "ack": ("ack", "Acknowledge an incident (I-7), or end a service's cool-downs; put back what is healthy."),
    "switch": ("switch", "Switch the automation off, let it only observe, or let it act."),
    "maintenance": ("maintenance", "Announce, list and end times in which nothing is recovered by itself."),
    "broker": ("broker", "What the broker has put aside: messages that no worker could take."),
    "playbook": ("playbook", "List, show and check playbooks."),
    "registry": (
        "registry",
        "Instances that register themselves, under leases; all instances for Prometheus.",
    ),
    "haproxy": ("haproxy", "Lint a haproxy.cfg, or write one from the inventory: what loses no request."),
    "adopt": ("adopt", "Take a running PostgreSQL cluster into care: from then on a failover may follow."),
    "store": ("store", "Whether the state store may be acted on, and a person's word that it may."),
    "detector": ("detector", "Write down the probes of a service, and replay them through the detector."),
    "audit": ("audit", "Who did what to what; and verify that nothing of that record was changed."),
    "migrate": ("migrate", "Bring the tables of the state store to this version."),
}
"""Command -> its module and what it is for. A module is imported when its command is asked for."""


class LazyGroup(click.Group):
    """Imports a command when it is run: ``ha-tasks --help`` has to be quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order in which they are needed, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """None for a command that does not exist."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ha_tasks.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; a word that is no command is answered with the one that was probably meant."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1) if args[0] not in COMMANDS else []
        if near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ha-tasks")
@click.option("--home", metavar="DIR", help="Home of the installation (else HA_TASKS_HOME, else ./.ha).")
@click.option("--debug", is_flag=True, help="Show where in the program an error came from.")
@click.pass_context
def root(ctx: click.Context, home: str | None, debug: bool) -> None:
    """ha-tasks: detects failures, recovers, verifies, rolls back."""
    ctx.obj = Session(home=home, debug=debug)
    ctx.call_on_close(ctx.obj.close)


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and answers its exit status.

    0 done, 1 failed, 2 usage, 3 refused by a rule, 4 unreachable, 130 interrupted.
    """
    try:
        status = root.main(args=list(arguments), prog_name="ha-tasks", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last one who can tell it in words
        return _ended_by(error, debug="--debug" in arguments)
    return status if isinstance(status, int) else 0


def _ended_by(error: BaseException, *, debug: bool) -> int:
    """Tells the error in one clear message on stderr and answers the exit status."""
    match error:
        case click.ClickException():
            error.show()
            return error.exit_code
        case HaTasksError():
            text, status = str(error), error.exit_status
        case BrokenPipeError():
            # Whoever read the output has had enough, as `head` has; what is buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case OSError():
            text, status = _said(error), 1
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case _:
            text, status = _fault(error), 1
    if debug:
        traceback.print_exception(error)
    click.echo(f"ha-tasks: {text}", err=True)
    return status


def _fault(error: BaseException) -> str:
    """What nobody foresaw, with the place in our own code from which it came."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "ha_tasks" in Path(f.filename).parts]
    where = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return (
        f"a fault of ha-tasks itself: {type(error).__name__}: {error}{where}; "
        "what was begun stands in: ha-tasks status; for a report: ha-tasks --debug ..."
    )


def _said(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; make room, or use a home on another disk: --home DIR"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}{error.strerror}; mend the permissions, or use another home: --home DIR"
    return f"{where}{error.strerror or error}"
