-- One role and one database for each service that keeps data; nobody else may connect to it.
-- Run as a superuser with psql. Passwords come from the environment: <SERVICE>_POSTGRES_PASSWORD.
-- Running it again changes nothing but the passwords, to what the environment says.

\set ON_ERROR_STOP on
\getenv gateway_password GATEWAY_POSTGRES_PASSWORD
\getenv ingest_password INGEST_POSTGRES_PASSWORD
\getenv sessions_password SESSIONS_POSTGRES_PASSWORD
\getenv scheduler_password SCHEDULER_POSTGRES_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', service)
FROM unnest(ARRAY['gateway', 'ingest', 'sessions', 'scheduler']) AS service
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = service)
\gexec

ALTER ROLE gateway PASSWORD :'gateway_password';
ALTER ROLE ingest PASSWORD :'ingest_password';
ALTER ROLE sessions PASSWORD :'sessions_password';
ALTER ROLE scheduler PASSWORD :'scheduler_password';

SELECT format('CREATE DATABASE %I OWNER %I', owned.database, owned.service)
FROM (VALUES
  ('timeloom_accounts', 'gateway'),
  ('timeloom_events', 'ingest'),
  ('timeloom_work', 'sessions'),
  ('timeloom_schedules', 'scheduler')
) AS owned (database, service)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = owned.database)
\gexec

REVOKE CONNECT, TEMPORARY ON DATABASE timeloom_accounts FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE timeloom_events FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE timeloom_work FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE timeloom_schedules FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
