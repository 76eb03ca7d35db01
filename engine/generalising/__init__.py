"""What marks would have made one recording of several: derived from what is recorded."""
