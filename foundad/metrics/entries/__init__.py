"""The entries of the metrics: their words and functions. One file per group, found by listing this folder."""
