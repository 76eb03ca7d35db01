"""Carrying a run: what is served, asked, run again and compared."""
