// Runs a command unless it runs already, anywhere: `node cron-singleton.mjs nightly-report ./report.sh`.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Held, Lost, withLock } from "./pawl.mjs";

const [key, command, ...args] = process.argv.slice(2);
try {
  process.exitCode = await withLock(key, {}, async () => {
    const [code] = await once(spawn(command, args, { stdio: "inherit" }), "exit");
    return code ?? 1;
  });
} catch (error) {
  if (error instanceof Held) console.log("skipped: another run is under way");
  else {
    console.error(error instanceof Lost ? `the lock was lost while the command ran: ${error.message}` : error.message);
    process.exitCode = error instanceof Lost ? 75 : 1;
  }
}
