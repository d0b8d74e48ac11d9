"""Rivals and controls: one file each, found by its name; see foundad/detection/model.py for what a file must hold."""
