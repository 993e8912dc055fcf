"""Updaters: how gradients become new parameters, in the workers or on a parameter server."""
