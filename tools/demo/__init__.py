"""Fills a running Timeloom with a realistic week of a small studio: `make demo`."""
