"""A run in progress: its task and its wish, the path it has taken, what it has paid and done."""
