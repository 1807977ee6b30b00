"""Runs the gateway: `python -m services.gateway`."""

import gc

from chassis.lifecycle import run
from services.gateway.app import build
from services.gateway.settings import Settings

# At 3,000 live connections a full collection stops everything for 220 ms, and Python's defaults
# ask for one every few broadcasts.
gc.set_threshold(50_000, 20, 100)
run("gateway", Settings, build)
