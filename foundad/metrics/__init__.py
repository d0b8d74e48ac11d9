"""Metrics: their entries, what computes them, and the stage ``evaluate``."""
