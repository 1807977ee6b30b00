"""Measures Timeloom against this machine's raw limits, in one run: `make bench`."""
