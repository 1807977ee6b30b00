-- migrate:up

-- Announcements that belong to committed state. Kept 72 h after publishing, so that a stream that
-- lost messages can be refilled; dropped by day.
CREATE TABLE outbox (
  id           uuid        NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  stream       text        NOT NULL,
  subject      text        NOT NULL,
  type         text        NOT NULL,
  payload      bytea       NOT NULL,
  traceparent  text        NOT NULL DEFAULT '',
  published_at timestamptz,
  CONSTRAINT outbox_pkey PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;

-- Serves the sweep of one stream: oldest unpublished first.
CREATE INDEX outbox_unpublished ON outbox (stream, id) WHERE published_at IS NULL;

-- The last position each stream acknowledged; a stream that is younger or shorter was rewound.
CREATE TABLE outbox_positions (
  stream   text   NOT NULL,
  created  text   NOT NULL,
  last_seq bigint NOT NULL,
  CONSTRAINT outbox_positions_pkey PRIMARY KEY (stream)
);

-- Messages that took effect, in the same transaction as the effect.
CREATE TABLE inbox (
  consumer     text        NOT NULL,
  message_id   text        NOT NULL,
  processed_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT inbox_pkey PRIMARY KEY (consumer, message_id)
);

-- Serves retention, which reads by age; BRIN because rows arrive in that order.
CREATE INDEX inbox_processed_at ON inbox USING brin (processed_at);

-- Makes the day partitions of today and the days ahead, and drops those that are past keeping.
-- Rows that fell into the default partition meanwhile are moved. Writers wait while a day is made,
-- never longer than the lock time-out for it to begin; a week ahead leaves time to try again.
CREATE FUNCTION outbox_keep_partitions(days_ahead int, days_kept int) RETURNS int
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
  day     date;
  part    text;
  changed int := 0;
  pending bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('outbox_keep_partitions'));
  FOR i IN 0..days_ahead LOOP
    day := (now() AT TIME ZONE 'UTC')::date + i;
    part := 'outbox_' || to_char(day, 'YYYYMMDD');
    IF to_regclass(part) IS NULL THEN
      -- Nobody may be on the way into the default partition: such a row would make the attachment
      -- fail, or be refused itself once the day has a partition of its own.
      LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
      -- The first answer may date from before the wait for another replica that made it.
      CONTINUE WHEN to_regclass(part) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I (LIKE outbox INCLUDING DEFAULTS)', part);
      EXECUTE format(
        'WITH moved AS (DELETE FROM outbox_default WHERE created_at >= %L AND created_at < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved',
        day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC', part);
      EXECUTE format(
        'ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        part, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
      changed := changed + 1;
    END IF;
  END LOOP;
  FOR part IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{8}$'
      AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - days_kept
  LOOP
    -- An unpublished row keeps its day: nothing disappears.
    EXECUTE format('SELECT count(*) FROM %I WHERE published_at IS NULL', part) INTO pending;
    IF pending = 0 THEN
      EXECUTE format('DROP TABLE %I', part);
      changed := changed + 1;
    END IF;
  END LOOP;
  RETURN changed;
END
$$;

SELECT outbox_keep_partitions(7, 3);

-- migrate:down

DROP FUNCTION outbox_keep_partitions(int, int);
DROP TABLE inbox;
DROP TABLE outbox_positions;
DROP TABLE outbox;
