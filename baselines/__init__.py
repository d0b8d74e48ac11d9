"""Rivals and controls: one file or folder each, found by its name; foundad/detection/registry.py says what it holds."""
