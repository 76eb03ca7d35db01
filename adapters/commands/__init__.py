"""The commands, each group in a module of its own; what they share is in ``common``."""
