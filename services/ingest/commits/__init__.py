"""What shares a transaction with whatever else arrives at the same moment.

group       the queue: one commit at a time, an exact answer for each caller
appends     a group of appends
heartbeats  a group of heartbeats
"""
