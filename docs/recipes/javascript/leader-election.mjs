// Says when this process leads and when it no longer does: `node leader-election.mjs scheduler`.
import { setTimeout as sleep } from "node:timers/promises";
import { lead } from "./pawl.mjs";

while (true) {
  // The stream is the lease: when this process dies, the connection closes and the next candidate leads at once.
  try {
    for await (const event of lead(process.argv[2])) {
      if (event === "granted") console.log("leading");
      if (event === "lost") console.log("deposed");
    }
  } catch (error) {
    console.error(`no stream: ${error.message}`);
  }
  await sleep(1000);
}
