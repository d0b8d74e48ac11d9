"""The stages: one file per rule, named like it. base.py is the contract, measured.py what two share, registry.py the list."""
