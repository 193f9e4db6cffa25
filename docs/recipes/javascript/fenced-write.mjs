// Adds to a balance so that a late write is refused: `DATABASE_URL=… node fenced-write.mjs 42 -100`.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { Lost, withLock } from "./pawl.mjs";

const [account, amount] = process.argv.slice(2).map(Number);
const database = new pg.Client({ connectionString: process.env.DATABASE_URL });
await database.connect();
try {
  // Renewed by hand, that is not at all: the lease is over after its ttl, whatever happens to this process.
  await withLock(`account/${account}`, { wait: "30s", ttl: "1s", renew: "manual" }, async ({ fencingToken }) => {
    const { rows } = await database.query("SELECT balance FROM account WHERE id = $1", [account]);
    await sleep(1000 * Number(process.env.THINK_SECONDS ?? 0));
    const balance = Number(rows[0].balance) + amount;
    // The token goes with the write, and the row remembers the largest. No row: a later holder has written.
    const { rowCount } = await database.query(
      "UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2",
      [balance, fencingToken, account],
    );
    if (rowCount === 0) {
      console.error(`refused: the token ${fencingToken} is stale`);
      process.exitCode = 3;
    } else {
      console.log(`balance ${balance}`);
    }
  });
} catch (error) {
  // The fence has decided about the write already.
  if (!(error instanceof Lost)) throw error;
} finally {
  await database.end();
}
