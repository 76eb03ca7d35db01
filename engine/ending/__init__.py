"""How a run ends: what is stored of it, what becomes a trace, and what its caller is told."""
