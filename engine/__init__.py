"""Recording and replaying runs: tools, agents, and the engine that holds them."""
