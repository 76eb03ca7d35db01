"""A run: what may be served, what has to be carried out, and what is checked before an effect."""
