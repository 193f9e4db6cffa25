"""The whole client: Pawl's API is HTTP, and the standard library speaks it."""

import contextlib
import http.client
import json
import os
import urllib.parse

URL = urllib.parse.urlsplit(os.environ.get("PAWL_URL", "http://127.0.0.1:4600"))
POLICY = os.environ.get("PAWL_POLICY", "-")


class Held(Exception):
    """Another holds the key."""


class Lost(Exception):
    """The lock was lost while the work was done: another may have begun."""


def call(method, path, body=None):
    """One request: its status and its JSON."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=90)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


@contextlib.contextmanager
def lock(key, **ask):
    """Holds `key` for the block; yields the grant. Raises Lost after the block if the lock did not last."""
    status, grant = call("POST", f"/v1/locks/{POLICY}/{key}", ask)
    if status == 423:
        raise Held(grant["detail"])
    if status != 200:
        raise RuntimeError(grant["detail"])
    try:
        yield grant
    except BaseException:
        call("DELETE", f"/v1/leases/{grant['leaseId']}")
        raise
    status, problem = call("DELETE", f"/v1/leases/{grant['leaseId']}")
    if status == 410:
        raise Lost(problem["detail"])


def lead(key):
    """Yields "granted" and "lost" as they come, for as long as the stream lives."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port)
    connection.request(
        "POST",
        f"/v1/locks/{POLICY}/{key}",
        json.dumps({"wait": "1m"}),
        {"Accept": "text/event-stream", "Content-Type": "application/json"},
    )
    with contextlib.closing(connection):
        for line in connection.getresponse():
            if line.startswith(b"event: "):
                yield line[len(b"event: ") :].strip().decode()
