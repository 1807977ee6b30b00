"""ingest without I/O."""
