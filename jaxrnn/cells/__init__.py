"""The families of cells, one a file; `elman.py` is the one to copy for your own."""
