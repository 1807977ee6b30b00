"""What ingest knows without asking anyone: pure, no clock, no I/O.

columns     events side by side, from the wire to the INSERT
admission   which reported events can be kept
identity    what makes two reports the same event
documents   free data in one canonical form
groups      appends that share a transaction, each with its own answer
heartbeats  when a heartbeat joins the event before it
events      one event, for the paths that handle them singly
buckets     sources with a description
months      partitions
paging      cursors and ranges of ids
"""
