"""Models of the YAML files, one file per kind of thing: a config that they reject never runs.

Import each model from its own file, because a job's key holds the files that its sources import. A source that calls what a
model computes (a property, a method) imports the model when it runs. A source that reads plain values, which are in the key
themselves, imports it for type checkers alone.

Finding, inheriting and cross-checking the YAML files is :mod:`foundad.plan.catalogue`'s work. Keys of one method, table or
figure stand beside its code.
"""
