"""ingest on the real stores."""
