"""Questions: one module each, pure functions from a trace to small frozen results."""
