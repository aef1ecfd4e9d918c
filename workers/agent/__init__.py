"""The host agent: the one process on a host that starts, fences, revokes and promotes."""
