"""Failure detectors side by side, on simulated probes of which the truth is known."""
