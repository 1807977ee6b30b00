-- migrate:up

-- Instants are bigint microseconds since the Unix epoch, UTC (ADR 0006): these tables are read and
-- written by the ten thousand, and the engine computes in the same unit.

-- One row per person: its lock while derived rows change, and the version announced with them.
CREATE TABLE timelines (
  org_id     uuid        NOT NULL,
  user_id    uuid        NOT NULL,
  version    bigint      NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT timelines_pkey PRIMARY KEY (org_id, user_id)
);

-- Serves the nightly verification: who changed lately.
CREATE INDEX timelines_changed ON timelines (changed_at);

-- Every event of every person, as ingest announced it; a removed event stays as a tombstone
-- (flag 16) so that a late announcement does not bring it back. The start leads the key, so that
-- new rows land where the person's last ones are.
CREATE TABLE activity (
  org_id    uuid    NOT NULL,
  user_id   uuid    NOT NULL,
  start_us  bigint  NOT NULL,
  device_id uuid    NOT NULL,
  event_id  uuid    NOT NULL,
  end_us    bigint  NOT NULL,
  flags     integer NOT NULL,
  revision  integer NOT NULL,
  source    text    NOT NULL,
  app       text    NOT NULL,
  title     text    NOT NULL,
  url       text    NOT NULL,
  project   text    NOT NULL,
  file      text    NOT NULL,
  language  text    NOT NULL,
  category  text    NOT NULL,
  CONSTRAINT activity_pkey PRIMARY KEY (org_id, user_id, start_us, device_id, event_id),
  CONSTRAINT activity_ends_after_start CHECK (end_us >= start_us)
);

-- Serves the look-back for the few events longer than an hour that reach into a region.
CREATE INDEX activity_long ON activity (org_id, user_id, end_us)
  WHERE end_us - start_us > 3600000000;

-- Stretches of activity or idleness with nothing between them to join them; `pieces` holds the
-- slices of an active one and the evidence of an idle one (store/blocks.py).
CREATE TABLE blocks (
  org_id   uuid   NOT NULL,
  user_id  uuid   NOT NULL,
  start_us bigint NOT NULL,
  end_us   bigint NOT NULL,
  kind     text   NOT NULL,
  pieces   bytea  NOT NULL,
  CONSTRAINT blocks_pkey PRIMARY KEY (org_id, user_id, start_us),
  CONSTRAINT blocks_end_after_start CHECK (end_us > start_us),
  CONSTRAINT blocks_kind_known CHECK (kind IN ('active', 'idle'))
);

CREATE TABLE sessions (
  org_id           uuid    NOT NULL,
  user_id          uuid    NOT NULL,
  start_us         bigint  NOT NULL,
  id               uuid    NOT NULL,
  kind             text    NOT NULL,
  end_us           bigint  NOT NULL,
  active_us        bigint  NOT NULL,
  idle_us          bigint  NOT NULL,
  category         text    NOT NULL,
  app              text    NOT NULL,
  domain           text    NOT NULL,
  project          text    NOT NULL,
  apps             text[]  NOT NULL,
  contexts         text[]  NOT NULL,
  context_switches integer NOT NULL,
  interruptions    integer NOT NULL,
  devices          text[]  NOT NULL,
  CONSTRAINT sessions_pkey PRIMARY KEY (org_id, user_id, start_us, kind),
  CONSTRAINT sessions_end_after_start CHECK (end_us > start_us),
  CONSTRAINT sessions_kind_known CHECK (kind IN ('active', 'idle'))
);

-- One local day of one person, as the contract's Day message.
CREATE TABLE days (
  org_id    uuid   NOT NULL,
  user_id   uuid   NOT NULL,
  date      date   NOT NULL,
  active_us bigint NOT NULL,
  idle_us   bigint NOT NULL,
  version   bigint NOT NULL,
  body      bytea  NOT NULL,
  CONSTRAINT days_pkey PRIMARY KEY (org_id, user_id, date)
);

-- What the gateway announced about people; the highest revision wins.
CREATE TABLE members (
  org_id            uuid    NOT NULL,
  user_id           uuid    NOT NULL,
  revision          bigint  NOT NULL,
  name              text    NOT NULL,
  role              text    NOT NULL,
  is_active         boolean NOT NULL,
  zones             jsonb   NOT NULL,
  day_start_minutes integer NOT NULL,
  CONSTRAINT members_pkey PRIMARY KEY (org_id, user_id)
);

-- migrate:down

DROP TABLE members;
DROP TABLE days;
DROP TABLE sessions;
DROP TABLE blocks;
DROP TABLE activity;
DROP TABLE timelines;
