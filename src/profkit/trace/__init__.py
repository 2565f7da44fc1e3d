"""The common trace: columns, nesting, Parquet in and out."""
