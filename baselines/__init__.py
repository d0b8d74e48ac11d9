"""Rivals and controls: a file or a folder each, found by its name; see foundad/detection/registry.py for what it holds."""
