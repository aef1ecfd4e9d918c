"""Drivers: one real thing per file, each behind a port."""
