"""profkit beside its peers, measured side by side in one run: `python -m benchmarks`."""
