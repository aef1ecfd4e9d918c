"""The nursery: imports once what seven processes need, and becomes each of them by forking.

``python -m ha_tasks.embedded.nursery [MODULE...]``. Importing Celery, SQLAlchemy and all of ours takes
some 3 s of CPU, and seven processes would each spend it on the same (measured: a whole start took 34 s
of CPU, with the nursery 10 s). A forked process then runs its module as ``python -m MODULE ARGUMENT...``
does, with the imports already there.

One request a line on standard input, one answer a line on standard output, both JSON::

    {"start": {"module", "arguments", "environment", "cwd", "log"}}  ->  {"pid": N}
    {"status_of": N}                                                 ->  {"status": N, or null}

At the end of its input (the supervisor is gone) it ends its children and itself. It never starts a
thread and opens no connection, so that a fork copies nothing that is in use.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOM = "-" * 400
"""The last argument: room for the names of the processes that it becomes, which ``ps`` shows."""


def main(modules: list[str]) -> None:
    """Answers requests until the end of the input."""
    rename([sys.executable, "-m", "ha_tasks.embedded.nursery"])
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # the collector would write to pages that are shared otherwise
    statuses: dict[int, int | None] = {}
    signal.signal(signal.SIGCHLD, lambda *_: reap(statuses))
    say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = start(**request["start"])
            statuses.setdefault(pid, None)
            say({"pid": pid})
        else:
            reap(statuses)
            say({"status": statuses.pop(request["status_of"], None)})
    for pid in [pid for pid, status in statuses.items() if status is None]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def reap(statuses: dict[int, int | None]) -> None:
    """Takes note of every child that has ended; negative: by a signal."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            statuses[found[0]] = os.waitstatus_to_exitcode(found[1])


def start(*, module: str, arguments: list[str], environment: dict[str, str], cwd: str, log: str) -> int:
    """Forks; the parent gets the pid, the child does not return."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        become(module, arguments, environment, Path(cwd), Path(log))
    return pid


def become(module: str, arguments: list[str], environment: dict[str, str], cwd: Path, log: Path) -> None:
    """Turns this process into ``python -m module arguments``; ends it."""
    os.setsid()
    os.chdir(cwd)
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for taken in (1, 2):
        os.dup2(descriptor, taken)
    os.close(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    random.seed()  # otherwise all would draw the same numbers
    gc.unfreeze()
    rename([sys.executable, "-m", module, *arguments])
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def rename(words: list[str]) -> None:
    """Puts the words where /proc and ``ps`` read the command line, as far as there is room; Linux only."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, see proc(5)
    if begin:
        title = b"\0".join(word.encode() for word in words)[: end - begin - 1]
        ctypes.memmove(begin, title.ljust(end - begin, b"\0"), end - begin)


def say(answer: dict[str, Any]) -> None:
    """One line to the supervisor."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument != ROOM])
