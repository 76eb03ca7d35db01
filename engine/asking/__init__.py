"""Questions about the graph: why, what a change would cost, what all runs came to, is it whole."""
