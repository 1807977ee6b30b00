"""ingest: what agents report, kept first and asked for later.

owns       raw events (partitioned by month), their identities, buckets
serves     IngestService
announces  activity: events that are new, grew, were replaced or removed
           (ACTIVITY, activity.v1.<partition>.<org>)
listens to ACCOUNTS, for people who asked to be forgotten; WORK, for its own jobs
"""
