"""The rehearsal of a run: the same experiments on small made-up data with tiny networks, through all stages.

A rehearsal shows, before hours of computing are spent, whether a run will end in tables, figures and a page. Stages
never import this package.
"""
