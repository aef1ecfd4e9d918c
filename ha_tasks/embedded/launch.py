"""Becomes a program that ends when its parent does: ``python -I -S launch.py PARENT PROGRAM [ARGUMENT...]``.

Stdlib only and tiny, because every process of the stack begins as this one. It is a program, not a
``preexec_fn``: forking a process that has threads and then running Python in it may hang (and Python 3.12
warns of it).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Does not return: replaces this process, or ends it with status 127 when the program cannot run."""
    parent, program, *rest = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(f"{program}: the supervisor ended before this could start")
    try:
        os.execv(program, [program, *rest])  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.stderr.write(f"{program} cannot be run: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
