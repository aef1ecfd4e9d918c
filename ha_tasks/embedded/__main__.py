"""The detached supervisor of ``ha-tasks demo --detach``: ``python -m ha_tasks.embedded HOME WISHES``."""

import json
import sys
from pathlib import Path

from ha_tasks.embedded.demo import supervise
from ha_tasks.embedded.live import Wishes

if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), Wishes(**json.loads(sys.argv[2])), sys.stdout))
