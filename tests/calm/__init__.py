"""Trials of calm: what disturbs the control plane, or the whole machine, must not lead to a failover."""
