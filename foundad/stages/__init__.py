"""The stages: one file a rule of the workflow, named like it; base.py is the contract, registry.py lists them."""
