"""A model of a table: from a dataset version to a bundle."""
