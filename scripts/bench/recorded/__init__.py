"""Recorded trajectories of real agents, and what drives them through an engine."""
