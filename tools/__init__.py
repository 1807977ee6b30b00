"""Generators and house checks; not part of any service."""
