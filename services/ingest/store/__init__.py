"""SQL of ingest, by what it is about.

appends     a group of reports in one statement
events      reading, growing, replacing and removing single events
pages       lists and counts
buckets     buckets
partitions  the months events lie in
erasure     forgetting people and old ids
"""
