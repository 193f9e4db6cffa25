"""Brings something up to date once, however many replicas start: `migration_lock.py schema ./is-current.sh ./migrate.sh`."""

import subprocess
import sys

import pawl

key, is_current, migrate = sys.argv[1:]
with pawl.lock(key, wait="1m"):
    # Look again under the lock: who waited finds the work done.
    if subprocess.run([is_current]).returncode != 0:
        subprocess.run([migrate], check=True)
