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
            (balance,) = database.execute("SELECT balance FROM account WHERE id = %s", [account]).fetchone()
            time.sleep(float(os.environ.get("THINK_SECONDS", "0")))
            # The token goes with the write, and the row remembers the largest. No row: a later holder has written.
            written = database.execute(
                "UPDATE account SET balance = %s, fence = %s WHERE id = %s AND fence <= %s",
                [balance + amount, grant["fencingToken"], account, grant["fencingToken"]],
            ).rowcount
        if not written:
            sys.exit(3)
except pawl.Lost as lost:
    # The write was applied before anyone newer wrote: the fence has seen to it.
    print(f"late, but not stale: {lost}", file=sys.stderr)
print(f"balance {balance + amount}")
