"""What a function is: the parts of keys that are made from code and from values."""
