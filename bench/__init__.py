"""Measures the product as its users meet it, and writes docs/benchmarks.md."""
