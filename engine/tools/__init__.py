"""Tools as they are declared: what a function takes and gives, and how it is called."""
