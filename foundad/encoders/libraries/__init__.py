"""Libraries that encoders come from: one file each, found by listing this folder; its name is the config's key ``library``.

A file defines ``build(settings)``, which gives the network with its weights: normalised images [B,3,S,S] to patch tokens
[B,N,D]. It is imported when one of its encoders is built.
"""
