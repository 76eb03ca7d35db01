"""A step as a run takes it: the facts noted before, what it gave, and how it is kept."""
