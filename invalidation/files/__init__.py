"""Files as resources: which there are, what each says, and when one may have changed."""
