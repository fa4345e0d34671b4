"""A training run in its folder, and the manners of the command that trains it."""
