"""How fast a small model is served, beside servers of others, under the same load."""
