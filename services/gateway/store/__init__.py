"""The accounts database: the only place of the gateway with SQL, one module per noun.

Functions take the connection, so that they compose into one transaction with its announcements.
"""
