"""The entries of the metrics: words, and which function computes them; one file a group, found by listing this folder."""
