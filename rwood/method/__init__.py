"""The paper as pure tensors: losses, scorers, metrics, the learning rate and embedding geometry.

Nothing here knows of files, networks, Ray or a command line; every function takes tensors and
plain numbers, and any of these modules could be pasted into a notebook.
"""
