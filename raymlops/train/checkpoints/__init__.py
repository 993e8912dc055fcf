"""Checkpoints: where they lie, what their files hold, which runs go on from them."""
