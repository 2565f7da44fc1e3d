"""Native formats: one module each, from a file to batches of columns."""
