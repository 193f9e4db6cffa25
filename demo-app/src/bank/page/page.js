"use strict";
// Asks this replica once a second what all of them know, and shows it. Text is only ever set as text.
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined && text !== null) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function row(cells, className) {
  const tr = element("tr", null, className);
  for (const [content, name] of cells) {
    const td = element("td", null, name);
    td.append(content instanceof Node ? content : String(content));
    tr.append(td);
  }
  return tr;
}

function tag(text, kind) {
  return element("span", text, `tag ${kind}`);
}

// A bar of what is there; what is there but should not be is red, and a line marks what is expected.
function bar(account) {
  const whole = Math.max(account.initial, account.balance, account.expected, 1);
  const x = (value) => Math.max(0, Math.min(100, (100 * value) / whole));
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = (className, from, to) => {
    const r = document.createElementNS(SVG, "rect");
    for (const [k, v] of Object.entries({ class: className, x: from, y: 0, width: Math.max(0, to - from), height: 8 })) r.setAttribute(k, v);
    svg.append(r);
  };
  rect("track", 0, 100);
  rect("kept", 0, x(Math.min(account.balance, account.expected)));
  rect("over", x(account.expected), x(account.balance));
  if (account.expected >= 0) rect("mark", Math.max(0, x(account.expected) - 0.4), x(account.expected) + 0.4);
  return svg;
}

function showSums(data) {
  const lost = data.totals.lostUpdates;
  $("balance").textContent = number.format(data.totals.balance);
  $("expected").textContent = number.format(data.totals.expected);
  $("lost").textContent = number.format(lost);
  $("lost-tile").className = `tile ${lost > 0 ? "bad" : "good"}`;
  $("lost-hint").textContent = lost > 0 ? "acknowledged, but in no balance" : "every deduction is in its balance";
  $("count").textContent = number.format(data.replicas.length);
  $("modes").textContent = [...new Set(data.replicas.map((r) => r.mode))].join(", ") || "none is there";
}

function showAccounts(accounts) {
  $("no-accounts").hidden = accounts.length > 0;
  $("accounts").replaceChildren(...accounts.map((a) => {
    const off = a.balance - a.expected;
    const lost = a.lostUpdates > 0 ? tag(number.format(a.lostUpdates), "bad") : tag("0", "good");
    const sign = off > 0 ? "+" : "";
    return row([
      [a.userId], [bar(a)], [number.format(a.balance), "n"], [number.format(a.expected), "n"],
      [off === 0 ? "–" : sign + number.format(off), "n"], [number.format(a.deductions), "n"], [lost, "n"],
    ], a.lostUpdates > 0 ? "wrong" : "");
  }));
}

function showReplicas(replicas) {
  $("replicas").replaceChildren(...replicas.map((r) => {
    const counts = Object.entries(r.deductions);
    const done = r.deductions.applied ?? 0;
    const refused = counts.reduce((sum, [, n]) => sum + n, 0) - done;
    const sidecar = r.sidecar === null ? "–" : tag(r.sidecar, r.sidecar === "up" ? "good" : "bad");
    const name = element("span", r.name);
    name.title = `${r.url}, process ${r.pid}`;
    return row([
      [name], [tag(r.mode, r.mode === "none" ? "bad" : "")], [tag(r.fencing ? "on" : "off", r.fencing ? "good" : "quiet")],
      [sidecar], [number.format(done), "n"], [number.format(refused), "n"],
    ]);
  }));
}

// Replicas may share a sidecar, so the same lease can be told more than once.
function showLocks(replicas) {
  const leases = new Map();
  let waiters = 0;
  for (const r of replicas) {
    for (const lease of r.locks?.leases ?? []) leases.set(`${lease.key} ${lease.fencingToken}`, lease);
    waiters = Math.max(waiters, r.locks?.waiters ?? 0);
  }
  const sorted = [...leases.values()].sort((a, b) => String(a.key).localeCompare(String(b.key)));
  $("no-locks").hidden = sorted.length > 0;
  $("waiters").textContent = waiters > 0 ? `${number.format(waiters)} waiting` : "";
  $("locks").replaceChildren(...sorted.map((l) => {
    const ends = Number.isFinite(l.expiresInMs) ? `${(l.expiresInMs / 1000).toFixed(1)} s` : "–";
    return row([[l.key ?? "–"], [l.owner ?? "–"], [l.fencingToken ?? "–", "n"], [ends, "n"]]);
  }));
}

function link(text, kind) {
  if ($("link").textContent !== text) $("link").textContent = text;
  $("link").className = `pill ${kind}`;
}

async function refresh() {
  try {
    const answer = await fetch("/api/overview", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const data = await answer.json();
    showSums(data);
    showAccounts(data.accounts);
    showReplicas(data.replicas);
    showLocks(data.replicas);
    $("replica").textContent = data.replica;
    document.body.dataset.ready = "true";
    link("live", "good");
  } catch {
    link("no answer, trying again", "bad");
  }
  setTimeout(refresh, document.hidden ? 5000 : 1000);
}
refresh();
