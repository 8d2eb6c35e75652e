"use strict";
// Shows GET /v1/status every two seconds. Everything comes into the page as text, never as markup.

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";
let before = null; // the counts of the last status, for rates

async function ask(path, method = "GET") {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const answer = await fetch(path, { method, headers, cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) {
    const e = new Error(body.title + (body.detail ? ": " + body.detail : "") + ". " + body.next);
    e.status = answer.status;
    throw e;
  }
  return body;
}

function say(text, kind) {
  if ($("state").textContent === text) return; // a screen reader hears changes only
  $("state").textContent = text;
  $("state").className = kind;
}

// row makes a table row; a cell is a text, a number, or an element.
function row(table, cells) {
  const tr = document.createElement("tr");
  const labels = table.querySelectorAll("th");
  cells.forEach((cell, i) => {
    const td = document.createElement("td");
    td.dataset.label = labels[i].textContent;
    if (cell instanceof Node) td.append(cell);
    else td.textContent = cell === "" ? "-" : cell;
    if (typeof cell === "number") td.className = "n";
    tr.append(td);
  });
  return tr;
}

function fill(table, rows, none) {
  const body = table.querySelector("tbody");
  if (rows.length === 0) rows = [[none]];
  body.replaceChildren(...rows.map((cells) => row(table, cells)));
}

function figures(list, values) {
  list.replaceChildren(...Object.entries(values).map(([name, value]) => {
    const div = document.createElement("div");
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    dd.id = list.id + "-" + name.replaceAll(" ", "-");
    if (String(value).length > 12) div.className = "wide";
    div.append(dt, dd);
    return div;
  }));
}

function time(ms) {
  if (ms < 1000) return ms.toFixed(ms < 10 ? 1 : 0) + " ms";
  const s = Math.round(ms / 1000);
  if (s < 120) return s + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  return Math.round(s / 3600) + " h";
}

function bytes(n) {
  if (n < 10000) return n + " B";
  if (n < 1e7) return Math.round(n / 1000) + " kB";
  return Math.round(n / 1e6) + " MB";
}

const total = (map) => Object.values(map || {}).reduce((a, b) => a + b, 0);

// rate is how fast a count has risen since the last status.
function rate(key, count, now, counts) {
  counts[key] = count;
  if (!before || !(key in before.counts)) return "";
  const seconds = (now - before.at) / 1000;
  return Math.max(0, (count - before.counts[key]) / seconds).toFixed(1);
}

function show(s) {
  const now = performance.now();
  const counts = {};
  $("name").textContent = s.node.name;
  document.title = "peermesh " + s.node.name;
  const l = s.node.ledger;
  const shown = { carried: l.carried, accepted: l.accepted, queued: l.queued, leased: l.leased, done: l.done, dead: l.dead, expired: l.expired };
  const dropped = Object.entries(l.dropped || {});
  for (const [reason, n] of dropped) shown["dropped " + reason] = n;
  if (dropped.length === 0) shown.dropped = 0;
  figures($("ledger"), shown);
  fill($("sockets"), s.sockets.filter((x) => x.ledger).map((x) => [x.kind, x.name, x.attached, x.ledger.queued, x.ledger.leased, x.ledger.done,
    x.ledger.dead, x.ledger.expired + total(x.ledger.dropped), rate("s" + x.kind + x.name, x.ledger.done, now, counts)]), "nothing is sent from here");
  fill($("received"), s.sockets.filter((x) => x.received).map((x) => [x.kind, x.name + (x.label ? " " + x.label : ""), x.attached,
    x.received.queued + x.received.begun, x.received.delivered, x.received.done, x.received.nacked,
    rate("r" + x.kind + x.name + x.label, x.received.done, now, counts)]), "nothing is received here");
  fill($("peers"), s.peers.map((p) => [p.name, p.addr, time(p.since_ms), p.rtt_us ? time(p.rtt_us / 1000) : "", p.offers.join(", ")]), "no other node is linked");
  const more = { requests: s.gateway.requests, streams: s.gateway.streams, "in clients' hands": s.gateway.leases, "node id": s.node.id, address: s.node.addr };
  if (s.spool) Object.assign(more, { "waiting on disk": bytes(s.spool.used), "disk used": bytes(s.spool.disk), encrypted: s.spool.encrypted ? "yes" : "no" });
  figures($("more"), more);
  const problems = s.problems.concat(s.spool && s.spool.failed ? [s.spool.failed] : []);
  $("problems").replaceChildren(...problems.map((text) => {
    const li = document.createElement("li");
    li.textContent = text;
    li.className = "bad";
    return li;
  }));
  before = { at: now, counts };
  if (s.gateway.leaving) say("This gateway is shutting down", "bad");
  else if (problems.length) say(problems.length === 1 ? "1 problem, see below" : problems.length + " problems, see below", "bad");
  else say(s.peers.length === 1 ? "1 other node is linked" : s.peers.length + " other nodes are linked", "good");
}

function button(text, label, action) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  b.setAttribute("aria-label", label);
  b.addEventListener("click", () => action().catch((e) => say(e.message, "bad")));
  return b;
}

let shownQueues = "";
function showDead(queues) {
  const text = JSON.stringify(queues);
  if (text === shownQueues) return; // or the focus would leave the button that has it
  shownQueues = text;
  fill($("dead"), queues.map((q) => [q.queue, q.dead, button("Show", "Show dead letters of " + q.queue, () => peek(q.queue, true))]), "none");
}

async function peek(queue, focus) {
  const letters = await ask("/v1/dead/" + encodeURIComponent(queue)).catch((e) => {
    if (e.status === 404) return [];
    throw e;
  });
  $("letters").hidden = false;
  $("letters-of").textContent = "Dead letters of " + queue;
  fill($("letters").querySelector("table"), letters.map((m) => {
    const pre = document.createElement("pre");
    pre.textContent = ("text" in m ? m.text : "base64: " + m.body) + (m.cut ? " ..." : "");
    return [m.seq, new Date(m.at).toLocaleString(), m.cause, bytes(m.size), pre,
      button("Replay", "Replay letter " + m.seq, async () => {
        const r = await ask("/v1/dead/" + encodeURIComponent(queue) + "/" + m.seq + "/replay", "POST");
        say("Letter " + r.dead + " of " + queue + " is message " + r.seq + " again", "good");
        await peek(queue, true);
      })];
  }), "none are left");
  if (focus) $("letters-of").focus();
}

async function refresh() {
  try {
    const s = await ask("/v1/status");
    $("login").hidden = true;
    show(s);
    showDead(await ask("/v1/dead"));
  } catch (e) {
    if (e.status === 401 || e.status === 403) $("login").hidden = false;
    say(e.message, "bad");
  }
}

$("login").addEventListener("submit", (e) => {
  e.preventDefault();
  token = $("secret").value.trim();
  sessionStorage.setItem("token", token);
  refresh();
});

// One after the other, and none while nobody looks.
async function loop() {
  if (!document.hidden) await refresh();
  setTimeout(loop, 2000);
}
loop();
