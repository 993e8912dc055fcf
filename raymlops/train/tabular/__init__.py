"""A classifier over a table: from a dataset version to a bundle."""
