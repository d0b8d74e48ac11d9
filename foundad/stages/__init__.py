"""The stages of the workflow: one file per rule, with the rule's name.

base.py holds the contract of a stage, measured.py what two stages share, and registry.py the list of all stages.
"""
