-- migrate:up

-- Instants come and go as microseconds since the Unix epoch. Both are plain SQL and only STABLE, so
-- that the planner puts their bodies in place of the call.
CREATE FUNCTION from_us(us bigint) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN timestamptz 'epoch' + us * interval '1 microsecond';

CREATE FUNCTION to_us(moment timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (extract(epoch FROM moment) * 1000000)::bigint;

-- What agents reported, one partition for each month of start_at (events_YYYYMM, made by
-- events_keep_month; there is no default partition, because rows in one would have to be moved).
-- A removed event stays as a tombstone without content, so that a retry does not bring it back.
CREATE TABLE events (
  org_id         uuid        NOT NULL,
  event_id       uuid        NOT NULL,
  device_id      uuid        NOT NULL,
  start_at       timestamptz NOT NULL,
  end_at         timestamptz NOT NULL,
  -- The end as it was reported, where that lay ahead of the clock and was clamped. Sending the
  -- same event again is compared with this one, or a clamped event would grow with every retry.
  claimed_end_at timestamptz,
  received_at    timestamptz NOT NULL,
  removed_at     timestamptz,
  user_id        uuid        NOT NULL,
  -- 0 as reported; grows when a person replaces or removes the event.
  revision       integer     NOT NULL DEFAULT 0,
  -- Bits of timeloom.common.v1.ActivityColumns.flags but for 16, which is removed_at here.
  flags          smallint    NOT NULL,
  -- A column of its own, so that growing an event touches no index until it passes the hour.
  is_long        boolean     NOT NULL
                 GENERATED ALWAYS AS (end_at - start_at > interval '1 hour') STORED,
  source         text        NOT NULL,
  app            text        NOT NULL,
  title          text        NOT NULL,
  url            text        NOT NULL,
  project        text        NOT NULL,
  file           text        NOT NULL,
  language       text        NOT NULL,
  category       text        NOT NULL,
  -- A JSON object in canonical text: nothing here looks inside it, and jsonb refuses some strings.
  data           text        NOT NULL,
  -- The event id comes before the device: people remove an event by its id alone.
  CONSTRAINT events_pkey PRIMARY KEY (org_id, event_id, device_id, start_at),
  CONSTRAINT events_end_after_start CHECK (end_at >= start_at),
  CONSTRAINT events_clamped_are_flagged CHECK ((claimed_end_at IS NOT NULL) = (flags & 8 <> 0)),
  CONSTRAINT events_removed_are_revised CHECK (removed_at IS NULL OR revision > 0)
) PARTITION BY RANGE (start_at);

-- Serves LIST_OF_USER, COUNT_OF_USER and ERASE_EVENTS.
CREATE INDEX events_of_user ON events (org_id, user_id, start_at, event_id);

-- Serves LIST_OF_BUCKET, COUNT_OF_BUCKET, FIND_NEIGHBOURS, LIST_BUCKETS (its newest event) and
-- REMOVE_BUCKET_EVENTS.
CREATE INDEX events_of_bucket ON events (org_id, device_id, source, start_at);

-- Serves the same lists and counts, for the few events long enough to reach into a range from far
-- before it.
CREATE INDEX events_long ON events (org_id, user_id, start_at) WHERE is_long;

-- Ids that clients chose, which say nothing about the start: one id is one event across all months.
-- Ids made from content need no row, the start is in them.
CREATE TABLE event_identities (
  org_id    uuid        NOT NULL,
  device_id uuid        NOT NULL,
  event_id  uuid        NOT NULL,
  start_at  timestamptz NOT NULL,
  CONSTRAINT event_identities_pkey PRIMARY KEY (org_id, device_id, event_id)
);

-- Serves FORGET_IDENTITIES, which reads by age; BRIN because most rows arrive in that order.
CREATE INDEX event_identities_start ON event_identities USING brin (start_at);

-- A source on a device with a description, as ActivityWatch knows it; its events have its name as
-- their source.
CREATE TABLE buckets (
  org_id     uuid        NOT NULL,
  user_id    uuid        NOT NULL,
  name       text        NOT NULL,
  device_id  uuid        NOT NULL,
  type       text        NOT NULL,
  client     text        NOT NULL,
  hostname   text        NOT NULL,
  data       text        NOT NULL,
  created_at timestamptz NOT NULL,
  CONSTRAINT buckets_pkey PRIMARY KEY (org_id, user_id, name)
);

-- Makes the partition of the month that begins at `month`; false when it was there. The table is
-- attached, not created in place, because attaching does not hold up inserts into other months.
CREATE FUNCTION events_keep_month(month date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  part text := 'events_' || to_char(month, 'YYYYMM');
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('events_keep_month'));
  -- Asked of the table, whose rows this statement sees as they are now; to_regclass may answer from
  -- before the wait for the lock.
  IF EXISTS (
    SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'events'::regclass AND c.relname = part
  ) THEN
    RETURN false;
  END IF;
  EXECUTE format(
    'CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)',
    part);
  EXECUTE format(
    'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part,
    month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
  RETURN true;
END
$$;

-- Drops the partition of that month with its events; false when there was none. Whoever comes while
-- it waits for running queries waits behind it, so it gives up soon and is tried again another time.
CREATE FUNCTION events_drop_month(month date) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
  part text := 'events_' || to_char(month, 'YYYYMM');
BEGIN
  IF to_regclass(part) IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TABLE %I', part);
  RETURN true;
END
$$;

-- migrate:down

DROP FUNCTION events_drop_month(date);
DROP FUNCTION events_keep_month(date);
DROP TABLE buckets;
DROP TABLE event_identities;
DROP TABLE events;
DROP FUNCTION to_us(timestamptz);
DROP FUNCTION from_us(bigint);
