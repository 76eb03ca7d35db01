"""From sources to the store: when to look, and how what is read becomes a fact."""
