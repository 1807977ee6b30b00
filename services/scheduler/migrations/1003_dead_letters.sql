-- migrate:up

-- Messages that left processing by failure (promise P6), kept 30 days like their stream. `id` is
-- derived from the letter's id on the bus, so a letter that comes twice is one row.
CREATE TABLE dead_letters (
  org_id       uuid        NOT NULL,
  id           uuid        NOT NULL,
  service      text        NOT NULL,
  consumer     text        NOT NULL,
  stream       text        NOT NULL,
  stream_seq   bigint      NOT NULL,
  subject      text        NOT NULL,
  message_id   text        NOT NULL,
  type         text        NOT NULL,
  cause        text        NOT NULL,
  error        text        NOT NULL,
  fingerprint  text        NOT NULL,
  deliveries   integer     NOT NULL,
  replay_count integer     NOT NULL,
  -- The letter whose replay died as this one.
  replay_of    uuid,
  traceparent  text        NOT NULL,
  payload      bytea       NOT NULL,
  headers      text        NOT NULL,
  state        text        NOT NULL DEFAULT 'open',
  died_at      timestamptz NOT NULL,
  indexed_at   timestamptz NOT NULL DEFAULT now(),
  closed_at    timestamptz,
  closed_by    uuid,
  CONSTRAINT dead_letters_pkey PRIMARY KEY (org_id, id),
  CONSTRAINT dead_letters_state_known CHECK (state IN ('open', 'replayed', 'discarded')),
  CONSTRAINT dead_letters_closed_have_time CHECK ((state = 'open') = (closed_at IS NULL))
);

-- Serves the list: one state, newest first.
CREATE INDEX dead_letters_newest ON dead_letters (org_id, state, died_at DESC, id DESC);

-- Serves retention, which reads by age; BRIN because rows arrive in about that order.
CREATE INDEX dead_letters_died ON dead_letters USING brin (died_at);

-- Letters to publish again. `number` counts the replays of one message, by whomever it was not
-- handled, so that no two share an id on the bus.
CREATE TABLE replays (
  org_id       uuid        NOT NULL,
  message_id   text        NOT NULL,
  number       integer     NOT NULL,
  letter_id    uuid        NOT NULL,
  requested_by uuid,
  requested_at timestamptz NOT NULL DEFAULT now(),
  try_at       timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz,
  CONSTRAINT replays_pkey PRIMARY KEY (org_id, message_id, number),
  CONSTRAINT replays_once_per_letter UNIQUE (org_id, letter_id),
  CONSTRAINT replays_letter_exists FOREIGN KEY (org_id, letter_id)
    REFERENCES dead_letters (org_id, id) ON DELETE CASCADE
);

-- Serves the replayer: what is still to publish.
CREATE INDEX replays_due ON replays (try_at) WHERE published_at IS NULL;

-- migrate:down

DROP TABLE replays;
DROP TABLE dead_letters;
