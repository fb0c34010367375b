"""Benchmarks: what is claimed about speed, measured as ratios inside one run."""
