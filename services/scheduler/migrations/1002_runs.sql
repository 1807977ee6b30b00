-- migrate:up

-- Fences the attempts of every run: a later attempt always has the larger token.
CREATE SEQUENCE lease_tokens AS bigint;

-- Runs live on shelves. What is queued or running is on `live`; what ended moves to `day` or, when
-- it failed, to `week`, under the UTC day on which it ended, and goes with that day's partition. A
-- shelf is part of the key because PostgreSQL wants it there; `id` alone is unique.
CREATE TABLE runs (
  org_id               uuid             NOT NULL,
  id                   uuid             NOT NULL,
  shelf                text             NOT NULL DEFAULT 'live',
  shelved_on           date             NOT NULL DEFAULT 'epoch',
  schedule_id          uuid,
  revision             integer          NOT NULL DEFAULT 0,
  scheduled_for        timestamptz      NOT NULL,
  stands_for           integer          NOT NULL DEFAULT 1,
  job                  text             NOT NULL,
  args                 text             NOT NULL DEFAULT '',
  priority             integer          NOT NULL DEFAULT 0,
  state                text             NOT NULL,
  attempt              integer          NOT NULL,
  max_attempts         integer          NOT NULL,
  retry_base_seconds   integer          NOT NULL,
  retry_cap_seconds    integer          NOT NULL,
  start_margin_seconds integer          NOT NULL,
  max_runtime_seconds  integer          NOT NULL,
  lease_token          bigint           NOT NULL,
  -- When the scheduler must look at a live run: its lease ends, or its back-off.
  wake_at              timestamptz,
  is_waiting           boolean          NOT NULL DEFAULT false,
  progress             double precision NOT NULL DEFAULT 0,
  result               text             NOT NULL DEFAULT '',
  triggered_by         uuid,
  created_at           timestamptz      NOT NULL DEFAULT now(),
  finished_at          timestamptz,
  CONSTRAINT runs_pkey PRIMARY KEY (org_id, id, shelf, shelved_on),
  CONSTRAINT runs_state_known CHECK (state IN
    ('queued', 'running', 'succeeded', 'failed', 'canceled', 'missed', 'skipped')),
  CONSTRAINT runs_shelf_fits_state CHECK (shelf = CASE
    WHEN state IN ('queued', 'running') THEN 'live' WHEN state = 'failed' THEN 'week' ELSE 'day' END),
  CONSTRAINT runs_live_are_woken CHECK ((shelf = 'live') = (wake_at IS NOT NULL)),
  CONSTRAINT runs_ended_have_end CHECK ((shelf = 'live') = (finished_at IS NULL)),
  CONSTRAINT runs_stand_for_some CHECK (stands_for >= 1)
) PARTITION BY LIST (shelf);

-- Small and rewritten all the time: room for updates in place, and vacuum early.
CREATE TABLE runs_live PARTITION OF runs FOR VALUES IN ('live')
  WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE TABLE runs_day PARTITION OF runs FOR VALUES IN ('day') PARTITION BY RANGE (shelved_on);
CREATE TABLE runs_day_default PARTITION OF runs_day DEFAULT;
CREATE TABLE runs_week PARTITION OF runs FOR VALUES IN ('week') PARTITION BY RANGE (shelved_on);
CREATE TABLE runs_week_default PARTITION OF runs_week DEFAULT;

-- Serves leases and back-offs that end.
CREATE INDEX runs_wake ON runs (wake_at) WHERE wake_at IS NOT NULL;

-- Serves the overlap policy (does the schedule have a live run?) and the list of a schedule's runs.
CREATE INDEX runs_of_schedule ON runs (org_id, schedule_id, id);

-- What was heard of each attempt; one of which nothing was heard has no row. On the shelf of its
-- run.
CREATE TABLE attempts (
  org_id        uuid             NOT NULL,
  run_id        uuid             NOT NULL,
  number        integer          NOT NULL,
  shelf         text             NOT NULL,
  shelved_on    date             NOT NULL,
  lease_token   bigint           NOT NULL,
  started_at    timestamptz,
  finished_at   timestamptz,
  outcome       text             NOT NULL,
  worker        text             NOT NULL,
  progress      double precision NOT NULL,
  result        text             NOT NULL,
  error_kind    text             NOT NULL,
  error_message text             NOT NULL,
  CONSTRAINT attempts_pkey PRIMARY KEY (org_id, run_id, number, shelf, shelved_on),
  CONSTRAINT attempts_outcome_known CHECK (outcome IN ('', 'lost', 'failed', 'succeeded')),
  CONSTRAINT attempts_ended_have_end CHECK ((outcome = '') = (finished_at IS NULL))
) PARTITION BY LIST (shelf);

CREATE TABLE attempts_live PARTITION OF attempts FOR VALUES IN ('live')
  WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE TABLE attempts_day PARTITION OF attempts FOR VALUES IN ('day')
  PARTITION BY RANGE (shelved_on);
CREATE TABLE attempts_day_default PARTITION OF attempts_day DEFAULT;
CREATE TABLE attempts_week PARTITION OF attempts FOR VALUES IN ('week')
  PARTITION BY RANGE (shelved_on);
CREATE TABLE attempts_week_default PARTITION OF attempts_week DEFAULT;

-- migrate:down

DROP TABLE attempts;
DROP TABLE runs;
DROP SEQUENCE lease_tokens;
