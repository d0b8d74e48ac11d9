"""The rehearsal of a run: the same experiments on small made-up data and tiny networks, through every stage to the page.

It shows that hours of computing will end in tables, figures and a page before they are spent. Stages never import it.
"""
