"""``foundad run``: a folder of one's own pictures becomes a small project, and its cells run through the ordinary workflow.

``words`` and ``folder`` understand the folder, ``masks`` matches masks to pictures, ``split`` says what is learned from
and what is tested, ``project`` writes the config, ``outcome`` reads the results. Stages never import this package.
"""
