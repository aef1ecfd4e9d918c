"""The failover bench: ours and Patroni under the same faults, the same load, in turns on one machine.

``python -m tests.benchmarks.failover --help``. Only ``figures.py`` decides anything, and it is tested.
"""
