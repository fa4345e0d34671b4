"""Checkpoints: written at once or not at all, verified, and found again."""
