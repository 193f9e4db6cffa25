#!/usr/bin/env bash
# Brings something up to date once, however many replicas start at the same time:
# `migration-lock.sh schema ./is-current.sh ./migrate.sh`.
set -euo pipefail
url=${PAWL_URL:-http://127.0.0.1:4600} policy=${PAWL_POLICY:--} key=$1 is_current=$2 migrate=$3

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
status=$(curl -sS -o "$answer" -w '%{http_code}' -X POST "$url/v1/locks/$policy/$key" \
  -H 'Content-Type: application/json' -d '{"wait":"1m"}')
[ "$status" = 200 ] || { echo "no lock: $(cat "$answer")" >&2; exit 1; }
lease=$(sed -E 's/.*"leaseId":"([^"]+)".*/\1/' "$answer")

# Look again under the lock: who waited finds the work done.
code=0
"$is_current" || "$migrate" || code=$?

status=$(curl -sS -o "$answer" -w '%{http_code}' -X DELETE "$url/v1/leases/$lease")
[ "$status" = 204 ] || { echo "the lock was lost: $(cat "$answer")" >&2; exit 75; }
exit "$code"
