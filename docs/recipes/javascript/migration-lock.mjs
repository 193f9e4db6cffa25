// Brings something up to date once, however many replicas start: `node migration-lock.mjs schema ./is-current.sh ./migrate.sh`.
import { execFileSync, spawnSync } from "node:child_process";
import { withLock } from "./pawl.mjs";

const [key, isCurrent, migrate] = process.argv.slice(2);
await withLock(key, { wait: "1m" }, async () => {
  // Look again under the lock: who waited finds the work done.
  if (spawnSync(isCurrent).status !== 0) execFileSync(migrate);
});
