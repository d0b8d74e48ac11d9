"""FoundAD and its rivals: a reproducible benchmark of few-shot visual anomaly detection."""

__version__ = "0.1.0"
