"""Data sets, long-tailed splits, samplers and feeds."""
