"""The engine as it is open in one event loop: what outlives a run, and works beside runs."""
