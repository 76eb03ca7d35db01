"""What is recorded of a task, and what of it stands by the facts and the code of now."""
