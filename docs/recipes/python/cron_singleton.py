"""Runs a command unless it runs already, anywhere: `cron_singleton.py nightly-report ./report.sh`."""

import subprocess
import sys

import pawl

key, *command = sys.argv[1:]
try:
    with pawl.lock(key):
        code = subprocess.run(command).returncode
except pawl.Held:
    print("skipped: another run is under way")
    code = 0
except pawl.Lost as lost:
    print(f"the lock was lost while the command ran: {lost}", file=sys.stderr)
    code = 75
sys.exit(code)
