"""Training that can be stopped at any moment and goes on with the same bits.

Each piece is usable alone; `loop.train` puts them together.
"""
