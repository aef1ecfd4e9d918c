"""Stories that join branches: plain Python, one file per story."""
