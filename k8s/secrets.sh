#!/bin/sh
# Prints the Secrets that the manifests name, made from deploy/secrets/ (deploy/secrets.sh):
#   sh k8s/secrets.sh | kubectl apply --server-side -f -
# POSTGRES_AT (postgres:5432) and POSTGRES_OPTIONS (sslmode=disable) say where PostgreSQL is;
# what dbmate and asyncpg both understand goes into the options, such as sslmode=require.
# Needs kubectl, but no cluster.
set -eu
folder="$(dirname "$0")/../deploy/secrets"
at="${POSTGRES_AT:-postgres:5432}"
options="${POSTGRES_OPTIONS:-sslmode=disable}"
[ -e "$folder/passwords.env" ] || { echo "run deploy/secrets.sh first" >&2; exit 1; }
. "$folder/passwords.env"

# Values go through files: on a command line they would show in every `ps`.
umask 077
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# secret <name> <key>=<value>…
secret() {
  name="$1"; shift
  rm -rf "$scratch/$name"; mkdir "$scratch/$name"
  for pair in "$@"; do printf '%s' "${pair#*=}" >"$scratch/$name/${pair%%=*}"; done
  echo "---"
  kubectl create secret generic "$name" --namespace timeloom --from-file="$scratch/$name" \
    --dry-run=client --output yaml
}

# keeper <service> <database> <password in PostgreSQL> <password in NATS>
keeper() {
  secret "$1" "postgres-dsn=postgresql://$1:$3@$at/$2?$options" "nats-password=$4"
}

keeper gateway timeloom_accounts "$GATEWAY_POSTGRES_PASSWORD" "$NATS_GATEWAY_PASSWORD"
keeper ingest timeloom_events "$INGEST_POSTGRES_PASSWORD" "$NATS_INGEST_PASSWORD"
keeper sessions timeloom_work "$SESSIONS_POSTGRES_PASSWORD" "$NATS_SESSIONS_PASSWORD"
keeper scheduler timeloom_schedules "$SCHEDULER_POSTGRES_PASSWORD" "$NATS_SCHEDULER_PASSWORD"
secret realtime "valkey-url=redis://:$VALKEY_PASSWORD@valkey:6379/0" \
  "nats-password=$NATS_REALTIME_PASSWORD"
# The key that verifies tokens is everybody's, the one that signs them the gateway's alone.
secret token-public "token-public.pem=$(cat "$folder/token-public.pem")"
secret token-private "token-private.pem=$(cat "$folder/token-private.pem")"
# What the stores themselves read.
secret postgres "postgres=$POSTGRES_PASSWORD" \
  "gateway=$GATEWAY_POSTGRES_PASSWORD" "ingest=$INGEST_POSTGRES_PASSWORD" \
  "sessions=$SESSIONS_POSTGRES_PASSWORD" "scheduler=$SCHEDULER_POSTGRES_PASSWORD"
secret nats "admin=$NATS_ADMIN_PASSWORD" "route=$NATS_ROUTE_PASSWORD" \
  "gateway=$NATS_GATEWAY_PASSWORD" "ingest=$NATS_INGEST_PASSWORD" \
  "sessions=$NATS_SESSIONS_PASSWORD" "scheduler=$NATS_SCHEDULER_PASSWORD" \
  "realtime=$NATS_REALTIME_PASSWORD"
secret valkey "password=$VALKEY_PASSWORD"
