"""What a store does, by role: a caller names those it needs; ``GraphStore`` is all of them."""
