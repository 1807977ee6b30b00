"""Tests: unit, integration (real stores), e2e (the whole suite), fault (things are killed)."""
