"""Benchmarks: ratios taken side by side in one run. `scripts/bench/run` starts them."""
