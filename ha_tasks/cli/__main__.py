"""``python -m ha_tasks.cli`` is ``ha-tasks``."""

from ha_tasks.cli import main

main()
