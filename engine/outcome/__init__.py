"""What is told of a run: its result, its causes, its events, its report."""
