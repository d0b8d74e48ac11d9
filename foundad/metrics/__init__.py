"""Metrics: their entries, the functions that compute them, and the stage ``evaluate``."""
