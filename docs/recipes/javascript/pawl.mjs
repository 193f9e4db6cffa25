// The whole client: Pawl's API is HTTP, and Node speaks it.
const url = process.env.PAWL_URL ?? "http://127.0.0.1:4600";
const policy = process.env.PAWL_POLICY ?? "-";

/** Another holds the key. */
export class Held extends Error {}
/** The lock was lost while the work was done: another may have begun. */
export class Lost extends Error {}

// Node's own fetch sends `Sec-Fetch-Mode` as a browser does, but neither `Origin` nor `Sec-Fetch-Site`, which Pawl refuses.
async function call(method, path, body) {
  const answer = await fetch(url + path, {
    method,
    headers: body ? { "content-type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
  });
  const text = await answer.text();
  return [answer.status, text ? JSON.parse(text) : null];
}

/** Holds `key` while `work(grant)` runs. Throws Lost after it if the lock did not last. */
export async function withLock(key, ask, work) {
  const [status, grant] = await call("POST", `/v1/locks/${policy}/${key}`, ask);
  if (status === 423) throw new Held(grant.detail);
  if (status !== 200) throw new Error(grant.detail);
  let result;
  try {
    result = await work(grant);
  } catch (error) {
    await call("DELETE", `/v1/leases/${grant.leaseId}`);
    throw error;
  }
  const [released, problem] = await call("DELETE", `/v1/leases/${grant.leaseId}`);
  if (released === 410) throw new Lost(problem.detail);
  return result;
}

/** Yields "granted" and "lost" as they come, for as long as the stream lives. */
export async function* lead(key) {
  const answer = await fetch(`${url}/v1/locks/${policy}/${key}`, {
    method: "POST",
    headers: { accept: "text/event-stream", "content-type": "application/json" },
    body: JSON.stringify({ wait: "1m" }),
  });
  let rest = "";
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("event: ")) yield line.slice("event: ".length).trim();
  }
}
