"""What a write passes before it happens: who chose it, its facts, a person, an earlier wish."""
