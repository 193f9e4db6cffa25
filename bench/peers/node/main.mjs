// Takes and releases fresh Redlock locks: `node main.mjs host:port ...`, then a number of cycles a line on standard input,
// each answered by `done`.
import { createInterface } from "node:readline";
import Redis from "ioredis";
import redlock from "redlock";

const Redlock = redlock.default ?? redlock;
const clients = process.argv.slice(2).map((address) => {
  const [host, port] = address.split(":");
  return new Redis({ host, port: Number(port) });
});
const locks = new Redlock(clients, { retryCount: 0, automaticExtensionThreshold: 500 });

let fresh = 0;
for await (const line of createInterface({ input: process.stdin })) {
  for (let cycle = 0; cycle < Number(line); cycle++) {
    const lock = await locks.acquire([`node/${fresh++}`], 10_000);
    await lock.release();
  }
  console.log("done");
}
for (const client of clients) client.disconnect();
