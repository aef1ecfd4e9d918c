"""Protocols of a few verbs: every effect of the product goes through one of these."""
