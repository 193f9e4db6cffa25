"""Says when this process leads and when it no longer does: `leader_election.py scheduler`."""

import sys
import time

import pawl

while True:
    # The stream is the lease: when this process dies, the connection closes and the next candidate leads at once.
    try:
        for event in pawl.lead(sys.argv[1]):
            if event == "granted":
                print("leading", flush=True)
            elif event == "lost":
                print("deposed", flush=True)
    except OSError as error:
        print(f"no stream: {error}", file=sys.stderr)
    time.sleep(1)
