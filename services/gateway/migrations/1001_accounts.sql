-- migrate:up

-- Organizations. Everything tenant-bound has org_id first in its primary key.
CREATE TABLE organizations (
  org_id     uuid        NOT NULL,
  name       text        NOT NULL,
  created_at timestamptz NOT NULL,
  CONSTRAINT organizations_pkey PRIMARY KEY (org_id),
  CONSTRAINT organizations_name CHECK (length(name) BETWEEN 1 AND 200)
);

-- People, who may belong to several organizations; what an organization calls them is its own.
CREATE TABLE users (
  user_id       uuid        NOT NULL,
  email         text        NOT NULL,
  password_hash text        NOT NULL,
  created_at    timestamptz NOT NULL,
  CONSTRAINT users_pkey PRIMARY KEY (user_id),
  CONSTRAINT users_email CHECK (length(email) BETWEEN 3 AND 254)
);

-- Serves sign-in; the same address in other letters is the same person.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- One person in one organization. `revision` counts the changes that were announced.
-- zone_from and zone_names are one history: zone_names[i] holds from zone_from[i] on, the first
-- also before; empty until the person chooses.
CREATE TABLE memberships (
  org_id            uuid          NOT NULL,
  user_id           uuid          NOT NULL,
  name              text          NOT NULL,
  role              text          NOT NULL,
  status            text          NOT NULL DEFAULT 'active',
  revision          bigint        NOT NULL DEFAULT 1,
  zone_from         timestamptz[] NOT NULL DEFAULT '{}',
  zone_names        text[]        NOT NULL DEFAULT '{}',
  day_start_minutes smallint      NOT NULL DEFAULT 0,
  created_at        timestamptz   NOT NULL,
  expires_at        timestamptz,
  CONSTRAINT memberships_pkey PRIMARY KEY (org_id, user_id),
  CONSTRAINT memberships_organization FOREIGN KEY (org_id) REFERENCES organizations ON DELETE CASCADE,
  CONSTRAINT memberships_user FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE,
  CONSTRAINT memberships_name CHECK (length(name) BETWEEN 1 AND 200),
  CONSTRAINT memberships_role CHECK (role IN ('guest', 'member', 'manager', 'admin', 'owner')),
  CONSTRAINT memberships_status CHECK (status IN ('active', 'suspended')),
  CONSTRAINT memberships_zones CHECK (cardinality(zone_from) = cardinality(zone_names)),
  CONSTRAINT memberships_day_start CHECK (day_start_minutes BETWEEN 0 AND 1439),
  CONSTRAINT memberships_guests_expire CHECK (role <> 'guest' OR expires_at IS NOT NULL)
);

-- Serves sign-in and erasure: the organizations of one person.
CREATE INDEX memberships_by_user ON memberships (user_id);

-- Serves upkeep: guests whose time is over.
CREATE INDEX memberships_expiring ON memberships (expires_at)
  WHERE expires_at IS NOT NULL AND status = 'active';

-- Single use; only a hash of the token is kept.
CREATE TABLE invitations (
  org_id        uuid        NOT NULL,
  invitation_id uuid        NOT NULL,
  token_hash    bytea       NOT NULL,
  email         text        NOT NULL,
  role          text        NOT NULL,
  guest_until   timestamptz,
  invited_by    uuid        NOT NULL,
  created_at    timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  accepted_at   timestamptz,
  revoked_at    timestamptz,
  CONSTRAINT invitations_pkey PRIMARY KEY (org_id, invitation_id),
  CONSTRAINT invitations_organization FOREIGN KEY (org_id) REFERENCES organizations ON DELETE CASCADE,
  CONSTRAINT invitations_role CHECK (role IN ('guest', 'member', 'manager', 'admin', 'owner')),
  CONSTRAINT invitations_guest_until CHECK (role <> 'guest' OR guest_until IS NOT NULL),
  CONSTRAINT invitations_one_end CHECK (accepted_at IS NULL OR revoked_at IS NULL)
);

-- Machines, acting as the person who made the key. The secret is kept as a hash.
CREATE TABLE api_keys (
  org_id       uuid        NOT NULL,
  key_id       uuid        NOT NULL,
  user_id      uuid        NOT NULL,
  name         text        NOT NULL,
  prefix       text        NOT NULL,
  secret_hash  bytea       NOT NULL,
  scopes       text[]      NOT NULL,
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz,
  revoked_at   timestamptz,
  last_used_at timestamptz,
  CONSTRAINT api_keys_pkey PRIMARY KEY (org_id, key_id),
  CONSTRAINT api_keys_member FOREIGN KEY (org_id, user_id) REFERENCES memberships ON DELETE CASCADE,
  CONSTRAINT api_keys_name CHECK (length(name) BETWEEN 1 AND 200),
  CONSTRAINT api_keys_scopes CHECK (
    cardinality(scopes) > 0 AND scopes <@ ARRAY['events:write', 'jobs:write', 'read'])
);

-- Serves authentication, which knows nothing but the key.
CREATE INDEX api_keys_by_prefix ON api_keys (prefix);

-- A sign-in: every refresh token that follows from it belongs to its family.
CREATE TABLE sign_ins (
  org_id     uuid        NOT NULL,
  family_id  uuid        NOT NULL,
  user_id    uuid        NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  CONSTRAINT sign_ins_pkey PRIMARY KEY (org_id, family_id),
  CONSTRAINT sign_ins_member FOREIGN KEY (org_id, user_id) REFERENCES memberships ON DELETE CASCADE
);

-- Serves "sign out everywhere", suspension and erasure.
CREATE INDEX sign_ins_by_user ON sign_ins (org_id, user_id);

-- One row per token handed out; a used one that comes back is theft, and ends the family.
CREATE TABLE refresh_tokens (
  org_id     uuid        NOT NULL,
  family_id  uuid        NOT NULL,
  token_hash bytea       NOT NULL,
  issued_at  timestamptz NOT NULL,
  used_at    timestamptz,
  CONSTRAINT refresh_tokens_pkey PRIMARY KEY (org_id, family_id, token_hash),
  CONSTRAINT refresh_tokens_sign_in FOREIGN KEY (org_id, family_id) REFERENCES sign_ins ON DELETE CASCADE
);

-- Devices by key: UUIDv5 of the person and the text the agent calls itself by.
CREATE TABLE devices (
  org_id        uuid        NOT NULL,
  device_id     uuid        NOT NULL,
  user_id       uuid        NOT NULL,
  client_id     text        NOT NULL,
  name          text        NOT NULL DEFAULT '',
  kind          text        NOT NULL DEFAULT '',
  first_seen_at timestamptz NOT NULL,
  last_seen_at  timestamptz NOT NULL,
  CONSTRAINT devices_pkey PRIMARY KEY (org_id, device_id),
  CONSTRAINT devices_member FOREIGN KEY (org_id, user_id) REFERENCES memberships ON DELETE CASCADE,
  CONSTRAINT devices_client_id CHECK (length(client_id) BETWEEN 1 AND 100)
);

-- Serves the list of a person's devices.
CREATE INDEX devices_by_user ON devices (org_id, user_id);

-- Who did what to whom; ids only, so that erasure leaves it truthful and nameless.
CREATE TABLE audit_log (
  org_id        uuid        NOT NULL,
  entry_id      uuid        NOT NULL,
  at            timestamptz NOT NULL,
  actor_id      uuid        NOT NULL,
  credential_id text        NOT NULL,
  action        text        NOT NULL,
  target        text        NOT NULL,
  detail        jsonb       NOT NULL DEFAULT '{}',
  CONSTRAINT audit_log_pkey PRIMARY KEY (org_id, entry_id)
);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only';
END
$$;

CREATE TRIGGER audit_log_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

-- Answers already given, by credential and Idempotency-Key; `answer` is sealed: it may hold secrets.
-- status is null while the first request is still running.
CREATE TABLE idempotency_keys (
  org_id        uuid        NOT NULL,
  user_id       uuid        NOT NULL,
  credential_id text        NOT NULL,
  key_hash      bytea       NOT NULL,
  request_hash  bytea       NOT NULL,
  status        smallint,
  answer        bytea,
  created_at    timestamptz NOT NULL,
  CONSTRAINT idempotency_keys_pkey PRIMARY KEY (org_id, user_id, credential_id, key_hash),
  CONSTRAINT idempotency_keys_answered CHECK ((status IS NULL) = (answer IS NULL))
);

-- Serves upkeep, which reads by age; BRIN because rows arrive in that order.
CREATE INDEX idempotency_keys_created_at ON idempotency_keys USING brin (created_at);

-- migrate:down

DROP TABLE idempotency_keys;
DROP TABLE audit_log;
DROP FUNCTION audit_log_is_append_only();
DROP TABLE devices;
DROP TABLE refresh_tokens;
DROP TABLE sign_ins;
DROP TABLE api_keys;
DROP TABLE invitations;
DROP TABLE memberships;
DROP TABLE users;
DROP TABLE organizations;
