"""The engine under fire: the world is stopped at every boundary of a run, and every run ends right."""
