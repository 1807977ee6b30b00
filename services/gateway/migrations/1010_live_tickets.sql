-- migrate:up

-- One row for each ticket that may still open a live connection; using it removes the row, so that
-- it works once on all replicas together. Rows live for seconds.
CREATE TABLE live_tickets (
  org_id                uuid        NOT NULL,
  ticket_id             uuid        NOT NULL,
  expires_at            timestamptz NOT NULL,
  credential_expires_at timestamptz,
  CONSTRAINT live_tickets_pkey PRIMARY KEY (org_id, ticket_id),
  CONSTRAINT live_tickets_organization FOREIGN KEY (org_id) REFERENCES organizations ON DELETE CASCADE
);

-- Serves the clearing of tickets that nobody used.
CREATE INDEX live_tickets_expiring ON live_tickets (expires_at);

-- migrate:down

DROP TABLE live_tickets;
