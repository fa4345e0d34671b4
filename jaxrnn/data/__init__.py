"""Data of all kinds of sequences as batches that are pure functions of the step."""
