-- migrate:up

-- The nil organization owns the suite's own schedules, runs and letters.

-- One row per plan. `next_scheduled_for` is the next moment it stands for; `next_fire_at` is when
-- that is due, later by the jitter. Both are null when there is none.
CREATE TABLE schedules (
  org_id                 uuid        NOT NULL,
  id                     uuid        NOT NULL,
  name                   text        NOT NULL,
  job                    text        NOT NULL,
  kind                   text        NOT NULL,
  expression             text        NOT NULL,
  time_zone              text        NOT NULL,
  args                   text        NOT NULL DEFAULT '',
  misfire                text        NOT NULL,
  misfire_window_seconds integer     NOT NULL,
  misfire_max            integer     NOT NULL,
  overlap                text        NOT NULL,
  jitter_seconds         integer     NOT NULL,
  priority               integer     NOT NULL,
  start_margin_seconds   integer     NOT NULL,
  max_runtime_seconds    integer     NOT NULL,
  max_attempts           integer     NOT NULL,
  retry_base_seconds     integer     NOT NULL,
  retry_cap_seconds      integer     NOT NULL,
  -- What the code declared last; '' for what people made. Only a change of it changes the row.
  declaration            text        NOT NULL DEFAULT '',
  revision               integer     NOT NULL DEFAULT 1,
  next_scheduled_for     timestamptz,
  next_fire_at           timestamptz,
  paused_at              timestamptz,
  paused_by              uuid,
  pause_reason           text        NOT NULL DEFAULT '',
  missed_count           bigint      NOT NULL DEFAULT 0,
  skipped_count          bigint      NOT NULL DEFAULT 0,
  created_at             timestamptz NOT NULL DEFAULT now(),
  updated_at             timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT schedules_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT schedules_name_unique UNIQUE (org_id, name),
  CONSTRAINT schedules_kind_known CHECK (kind IN ('cron', 'every')),
  CONSTRAINT schedules_misfire_known CHECK (misfire IN ('skip', 'fire_latest', 'fire_all')),
  -- A fire older than this never happens, so fires may be forgotten after a while.
  CONSTRAINT schedules_misfire_window_bounded CHECK (misfire_window_seconds BETWEEN 0 AND 86400),
  CONSTRAINT schedules_misfire_max_bounded CHECK (misfire_max BETWEEN 1 AND 100),
  CONSTRAINT schedules_overlap_known CHECK (overlap IN ('allow_all', 'skip')),
  CONSTRAINT schedules_jitter_bounded CHECK (jitter_seconds BETWEEN 0 AND 86400),
  CONSTRAINT schedules_times_positive CHECK (start_margin_seconds > 0 AND max_runtime_seconds > 0),
  CONSTRAINT schedules_retries_bounded
    CHECK (max_attempts BETWEEN 1 AND 100 AND retry_base_seconds >= 0 AND retry_cap_seconds >= 0),
  CONSTRAINT schedules_next_complete
    CHECK ((next_scheduled_for IS NULL) = (next_fire_at IS NULL))
) WITH (fillfactor = 80);

-- Serves the claim and the sleep before it: what is due, the most overdue first.
CREATE INDEX schedules_due ON schedules (next_fire_at)
  WHERE next_fire_at IS NOT NULL AND paused_at IS NULL;

-- Each moment of a plan, once (promise P5). By day of the moment, so that the key can hold across
-- partitions; dropped long after the misfire window lets a moment fire.
CREATE TABLE fires (
  org_id        uuid        NOT NULL,
  schedule_id   uuid        NOT NULL,
  scheduled_for timestamptz NOT NULL,
  revision      integer     NOT NULL,
  run_id        uuid        NOT NULL,
  CONSTRAINT fires_pkey PRIMARY KEY (org_id, schedule_id, scheduled_for, revision)
) PARTITION BY RANGE (scheduled_for);

CREATE TABLE fires_default PARTITION OF fires DEFAULT;

-- Who claims; a replica beats only after it could.
CREATE TABLE replicas (
  id         uuid        NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  seen_at    timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT replicas_pkey PRIMARY KEY (id)
);

-- Makes the day partitions of `parent` for today and the days ahead, and drops those whose day is
-- more than `days_kept` before today; how many changed. Rows that fell into the default partition
-- are moved, or deleted when they are as old.
CREATE FUNCTION keep_day_partitions(parent text, key text, days_ahead int, days_kept int)
RETURNS int LANGUAGE plpgsql SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
  today   date := current_date;
  day     date;
  part    text;
  changed int := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('keep_day_partitions'));
  FOR i IN 0..days_ahead LOOP
    day := today + i;
    part := parent || '_' || to_char(day, 'YYYYMMDD');
    IF to_regclass(part) IS NULL THEN
      -- Nobody may be on the way into the default partition: such a row would make the attachment
      -- fail. Another replica may have made the partition while this one waited.
      EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent);
      CONTINUE WHEN to_regclass(part) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
      EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved', parent || '_default', key, day, key, day + 1, part);
      EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                     parent, part, day, day + 1);
      changed := changed + 1;
    END IF;
  END LOOP;
  FOR part IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass(parent) AND c.relname ~ ('^' || parent || '_[0-9]{8}$')
      AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - days_kept
  LOOP
    EXECUTE format('DROP TABLE %I', part);
    changed := changed + 1;
  END LOOP;
  EXECUTE format('DELETE FROM %I WHERE %I < %L', parent || '_default', key, today - days_kept);
  RETURN changed;
END
$$;

-- migrate:down

DROP FUNCTION keep_day_partitions(text, text, int, int);
DROP TABLE replicas;
DROP TABLE fires;
DROP TABLE schedules;
