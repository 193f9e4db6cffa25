#!/usr/bin/env bash
# Runs a command unless it runs already, anywhere: `cron-singleton.sh nightly-report ./report.sh`.
set -euo pipefail
url=${PAWL_URL:-http://127.0.0.1:4600} policy=${PAWL_POLICY:--} key=$1
shift

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
# No `wait`: a try. The sidecar renews the lease until it is released, or until the policy's maxHold.
status=$(curl -sS -o "$answer" -w '%{http_code}' -X POST "$url/v1/locks/$policy/$key")
case $status in
  200) lease=$(sed -E 's/.*"leaseId":"([^"]+)".*/\1/' "$answer") ;;
  423) echo "skipped: another run is under way"; exit 0 ;;
  *) echo "no lock: $(cat "$answer")" >&2; exit 1 ;;
esac

code=0
"$@" || code=$?

# 204: it was ours to the end. 410: it was lost on the way, and another run may have started meanwhile.
status=$(curl -sS -o "$answer" -w '%{http_code}' -X DELETE "$url/v1/leases/$lease")
if [ "$status" != 204 ]; then
  echo "the lock was lost while the command ran: $(cat "$answer")" >&2
  exit 75
fi
exit "$code"
