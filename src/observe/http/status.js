"use strict";
// Everything that is shown is set as text: names come from users.

const EVERY = 5000; // Milliseconds between two readings.
const POINTS = 120; // Readings that a chart holds: ten minutes.

// Rates of counters, as the table `stats` has them: title, unit, counter.
const RATES = [
  ["Statements", "/s", "osprey_statements_total"],
  ["Reads of encrypted data", "/s", "osprey_protected_statements_total"],
  ["Run again", "/min", "osprey_retries_total"],
  ["Errors with advice", "/min", "osprey_errors_rewritten_total"],
];
const TITLES = {
  advice: "Latest advice", tables: "Protected relations", keys: "Projects and their keys", lessons: "Lessons",
  latency: "How long statements take", limits: "Limits", upstreams: "Upstreams", databases: "Databases",
  config: "Configuration",
};
const HEADS = { limit_value: "limit", half: "50 % within", most: "99 % within", not_retried: "not run again" };
const ORDER = ["advice", "latency", "tables", "keys", "lessons", "limits", "upstreams", "databases", "config"];
const FOLDED = ["config"];
const BAD = ["Disabled", "PendingDeletion", "PendingImport", "DefaultKey"];

const histories = new Map();
let before = null;

function element(name, text, properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== null && text !== undefined) made.textContent = text;
  return made;
}

function named(column) {
  return HEADS[column] || column.replaceAll("_", " ");
}

function shown(value, column) {
  if (value === null) return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return value;
  if (["age", "catalog_age", "catalog_overdue", "uptime"].includes(column)) return duration(value);
  if (["mean", "half", "most"].includes(column)) return value < 1 ? `${Math.round(value * 1000)} ms` : `${value} s`;
  return value.toLocaleString("en");
}

function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

function rows(tables, name) {
  const table = tables.find((table) => table.name === name);
  if (!table) return [];
  return table.rows.map((row) => Object.fromEntries(table.columns.map((column, at) => [column, row[at]])));
}

function rates(tables, now) {
  const stats = rows(tables, "stats");
  const sums = RATES.map(([, , counter]) =>
    stats.filter((row) => row.name === counter).reduce((sum, row) => sum + row.value, 0));
  const sessions = stats.filter((row) => row.name === "osprey_sessions").reduce((sum, row) => sum + row.value, 0);
  const charts = [["Open sessions", "", sessions]];
  RATES.forEach(([title, unit], at) => {
    // After a restart counters begin at 0.
    const passed = before && sums[at] >= before.sums[at] ? (now - before.now) / 1000 : 0;
    const rate = passed > 0 ? (sums[at] - before.sums[at]) / passed : null;
    charts.push([title, unit, rate === null ? null : rate * (unit === "/min" ? 60 : 1), sums[at]]);
  });
  before = { now, sums };
  document.getElementById("rates").replaceChildren(...charts.map(chart));
}

function chart([title, unit, value, total]) {
  const history = histories.get(title) || [];
  histories.set(title, history);
  if (value !== null) history.push(value);
  if (history.length > POINTS) history.shift();
  const figure = element("figure");
  const number = value === null ? "…" : (Math.round(value * 10) / 10).toLocaleString("en") + unit;
  const most = Math.max(...history, 0);
  const since = total === undefined ? "" : `; ${total.toLocaleString("en")} since the start`;
  figure.append(element("figcaption", title), element("strong", number));
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", `0 0 ${POINTS} 40`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label",
    `${title}: now ${number}, at most ${(Math.round(most * 10) / 10).toLocaleString("en")}${unit} in the last ten minutes`);
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, at] of [["x1", 0], ["x2", POINTS], ["y1", 39], ["y2", 39]]) ground.setAttribute(name, at);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const points = history.map((point, at) =>
    `${POINTS - history.length + at} ${38 - (most > 0 ? (point / most) * 34 : 0)}`);
  line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
  drawing.append(ground, line);
  figure.append(drawing, element("figcaption", `at most ${(Math.round(most * 10) / 10).toLocaleString("en")}${unit}${since}`));
  return figure;
}

function cell(value, column, row) {
  const text = shown(value, column);
  const made = element("td", text);
  made.dataset.column = named(column);
  if (typeof value === "number") made.className = "number";
  if (text === "") made.className = "empty";
  if (column === "key_state" && BAD.includes(value)) made.className = "bad";
  if (column === "taken" && row.limit_value > 0) {
    const meter = element("meter", `${row.taken} of ${row.limit_value}`);
    Object.assign(meter, { min: 0, max: row.limit_value, high: row.limit_value * 0.8, value: row.taken });
    meter.setAttribute("aria-label", `${row.setting}: ${row.taken} of ${row.limit_value} taken`);
    made.append(" ", meter);
  }
  return made;
}

function section(table) {
  const made = element("section");
  const title = TITLES[table.name] || table.name;
  const lines = rows([table], table.name);
  const place = element("div", null, { className: "scroll", tabIndex: 0 });
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", title);
  const about = element("p", `${table.about}.`, { className: "about" });
  if (lines.length === 0) {
    place.append(element("p", "None.", { className: "about" }));
    place.removeAttribute("tabindex");
  } else {
    const grid = element("table");
    const head = element("thead");
    const heads = element("tr");
    for (const column of table.columns) {
      const isNumber = lines.some((row) => typeof row[column] === "number");
      heads.append(element("th", named(column), { scope: "col", className: isNumber ? "number" : "" }));
    }
    head.append(heads);
    const body = element("tbody");
    for (const row of lines) {
      const line = element("tr");
      for (const column of table.columns) line.append(cell(row[column], column, row));
      body.append(line);
    }
    grid.append(element("caption", title, { className: "skip" }), head, body);
    place.append(grid);
    if (table.more > 0) place.append(element("p", `and ${table.more} more: the console has them.`, { className: "about" }));
  }
  if (FOLDED.includes(table.name)) {
    const folded = element("details");
    const summary = element("summary");
    summary.append(element("h2", title));
    folded.open = unfolded.has(table.name);
    folded.addEventListener("toggle", () => unfolded[folded.open ? "add" : "delete"](table.name));
    folded.append(summary, about, place);
    made.append(folded);
  } else {
    made.append(element("h2", title), about, place);
  }
  return made;
}

const unfolded = new Set();

// Draws all tables anew; the keyboard's focus stays where it is, and what is selected is left to be copied.
function draw(tables) {
  const place = document.getElementById("tables");
  const selection = document.getSelection();
  if (!selection.isCollapsed && place.contains(selection.anchorNode)) return;
  const stops = () => [...place.querySelectorAll("[tabindex], summary")];
  const focused = stops().indexOf(document.activeElement);
  place.replaceChildren(...tables.map(section));
  if (focused >= 0) stops()[focused]?.focus({ preventScroll: true });
}

async function read() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const status = await answer.json();
    const [version] = rows(status.tables, "version");
    document.getElementById("version").textContent = `${version.version}, up ${duration(version.uptime)}`;
    // It is read aloud when it changes.
    const told = `It is ${status.state}.`;
    if (state.textContent !== told) state.textContent = told;
    state.className = status.state === "ready" ? "" : "bad";
    rates(status.tables, performance.now());
    const tables = ORDER.map((name) => status.tables.find((table) => table.name === name)).filter(Boolean);
    draw(tables);
  } catch (error) {
    state.className = "bad";
    state.textContent = `No status: ${error.message}`;
  }
  setTimeout(read, EVERY);
}

read();
