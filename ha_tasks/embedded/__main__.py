"""The detached supervisor: ``python -m ha_tasks.embedded HOME``, started by ``ha-tasks demo --detach``."""

import sys
from pathlib import Path

from ha_tasks.embedded.demo import supervise

if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), sys.stdout))
