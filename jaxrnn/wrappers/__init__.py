"""Cells around cells: each changes one thing about another and leaves it the rest."""
