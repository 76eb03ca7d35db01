"""What connects execgraph to the world outside."""
