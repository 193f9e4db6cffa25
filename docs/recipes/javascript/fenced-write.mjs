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
    // The read shows the token to the row, which remembers the largest: from here on an older holder's write is refused, so
    // none can slip in between this read and its write.
    const { rows } = await database.query(
      "UPDATE account SET fence = $1 WHERE id = $2 AND fence <= $1 RETURNING balance",
      [fencingToken, account],
    );
    await sleep(1000 * Number(process.env.THINK_SECONDS ?? 0));
    const balance = Number(rows[0]?.balance) + amount;
    // And so does the write. No row, here or above: a later holder was there.
    const { rowCount } = rows.length === 0 ? { rowCount: 0 } : await database.query(
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
