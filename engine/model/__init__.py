"""Who is asked: what the engine needs to know of a provider, and what replies cost."""
