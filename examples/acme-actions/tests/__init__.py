"""Acme's own tests of its actions."""
