#!/usr/bin/env bash
# Says when this process leads and when it no longer does: `leader-election.sh scheduler`. Exactly one leads at a time.
set -euo pipefail
url=${PAWL_URL:-http://127.0.0.1:4600} policy=${PAWL_POLICY:--} key=$1

# The stream is the lease: it is renewed while the connection lives, and closing it releases. When this script dies, so does
# curl, and the next candidate leads at once.
while true; do
  curl -sSN -X POST "$url/v1/locks/$policy/$key" -H 'Accept: text/event-stream' \
    -H 'Content-Type: application/json' -d '{"wait":"1m"}' |
    while IFS= read -r line; do
      case $line in
        "event: granted"*) echo "leading" ;;
        "event: lost"*) echo "deposed"; break ;;
      esac
    done || true
  sleep 1
done
