"""Adds to a balance so that a late write is refused: `DATABASE_URL=… fenced_write.py 42 -100`."""

import os
import sys
import time

import psycopg

import pawl

account, amount = int(sys.argv[1]), int(sys.argv[2])
try:
    # Renewed by hand, that is not at all: the lease is over after its ttl, whatever happens to this process.
    with pawl.lock(f"account/{account}", wait="30s", ttl="1s", renew="manual") as grant:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
            # The read shows the token to the row, which remembers the largest: from here on an older holder's write is
            # refused, so none can slip in between this read and its write.
            token = grant["fencingToken"]
            row = database.execute(
                "UPDATE account SET fence = %s WHERE id = %s AND fence <= %s RETURNING balance", [token, account, token]
            ).fetchone()
            time.sleep(float(os.environ.get("THINK_SECONDS", "0")))
            # And so does the write. No row, here or above: a later holder was there.
            balance = row[0] + amount if row else 0
            written = row and database.execute(
                "UPDATE account SET balance = %s, fence = %s WHERE id = %s AND fence <= %s", [balance, token, account, token]
            ).rowcount
        if not written:
            print(f"refused: the token {token} is stale", file=sys.stderr)
            sys.exit(3)
except pawl.Lost as lost:
    # The write was applied before anyone newer wrote: the fence has seen to it.
    print(f"late, but not stale: {lost}", file=sys.stderr)
print(f"balance {balance}")
