"""The training loop, and what goes round with it: rows, state, progress, measures of a step."""
