"""Rivals and controls: one file each, found by its name; see foundad/detector.py for what a file must hold."""
