"""Losses, re-weighting and mixing: formulas, per example."""
