#!/bin/sh
# Makes the secrets that compose.yaml and k8s/secrets.sh read: deploy/secrets/, once; never overwrites.
# Needs openssl. Passwords begin with a letter, so nats-server never reads one as a number.
set -eu
cd "$(dirname "$0")"
if [ -e secrets ]; then
  echo "deploy/secrets exists already; nothing changed"
  exit 0
fi

umask 077
rm -rf secrets.part
mkdir secrets.part
for name in POSTGRES_PASSWORD \
  GATEWAY_POSTGRES_PASSWORD INGEST_POSTGRES_PASSWORD \
  SESSIONS_POSTGRES_PASSWORD SCHEDULER_POSTGRES_PASSWORD \
  NATS_ADMIN_PASSWORD NATS_GATEWAY_PASSWORD NATS_INGEST_PASSWORD \
  NATS_SESSIONS_PASSWORD NATS_SCHEDULER_PASSWORD NATS_REALTIME_PASSWORD NATS_ROUTE_PASSWORD \
  VALKEY_PASSWORD; do
  printf '%s=k%s\n' "$name" "$(openssl rand -hex 16)" >>secrets.part/passwords.env
done
openssl genpkey -algorithm ed25519 -out secrets.part/token-private.pem 2>/dev/null
openssl pkey -in secrets.part/token-private.pem -pubout -out secrets.part/token-public.pem
# The containers run as another user; the folder keeps everybody else on this host out.
chmod 0444 secrets.part/*.pem
mv secrets.part secrets
echo "made deploy/secrets"
