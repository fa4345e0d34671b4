"""Training that can be stopped at any moment and goes on with the same bits.

Each piece is usable alone; `run.Run` puts them together: a whole run in its folder.
"""
