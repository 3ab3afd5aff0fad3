"""Measurements: ratios from one run, interleaved, with medians. `make bench` prints docs/benchmarks.md's table."""
