"""What may change, and what a change makes of what was recorded."""
