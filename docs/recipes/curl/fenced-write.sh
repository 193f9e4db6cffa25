#!/usr/bin/env bash
# Adds to a balance so that a late write is refused: `DATABASE_URL=… fenced-write.sh 42 -100`.
set -euo pipefail
url=${PAWL_URL:-http://127.0.0.1:4600} policy=${PAWL_POLICY:--} account=$1 amount=$2

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
# Renewed by hand, that is not at all: the lease is over after its ttl, whatever happens to this script.
status=$(curl -sS -o "$answer" -w '%{http_code}' -X POST "$url/v1/locks/$policy/account/$account" \
  -H 'Content-Type: application/json' -d '{"wait":"30s","ttl":"1s","renew":"manual"}')
[ "$status" = 200 ] || { echo "no lock: $(cat "$answer")" >&2; exit 1; }
lease=$(sed -E 's/.*"leaseId":"([^"]+)".*/\1/' "$answer")
token=$(sed -E 's/.*"fencingToken":([0-9]+).*/\1/' "$answer")

# The read shows the token to the row, which remembers the largest: from here on an older holder's write is refused, so none can
# slip in between this read and its write.
balance=$(psql "$DATABASE_URL" -qAtX -c "UPDATE account SET fence = $token
  WHERE id = $account AND fence <= $token RETURNING balance")
sleep "${THINK_SECONDS:-0}"
# And so does the write. No row, here or above: a later holder was there.
[ -z "$balance" ] || written=$(psql "$DATABASE_URL" -qAtX -c "UPDATE account SET balance = $((balance + amount)), fence = $token
  WHERE id = $account AND fence <= $token RETURNING id")

curl -sS -o /dev/null -X DELETE "$url/v1/leases/$lease"
if [ -z "${written:-}" ]; then
  echo "refused: the token $token is stale" >&2
  exit 3
fi
echo "balance $((balance + amount))"
