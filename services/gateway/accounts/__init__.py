"""What people can do about accounts, one module per errand.

Everything that changes goes through the ledger: audited, announced, and dropped from the cache.
"""
