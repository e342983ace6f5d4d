// The page asks for one document a second and shows it; texts are only ever set as text, so a label cannot become markup.

const EVERY_MS = 1000, TIMEOUT_MS = 8000, SINGLE_MS = 2000, STREAM_AGAIN_MS = 30000, STREAM_LONGEST_MS = 300000;
const $ = (id) => document.getElementById(id);

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// A name may be an address without a space in it: lines break behind its slashes, not within a word.
function named(tag, text, attributes) {
  const element = make(tag, null, attributes);
  for (const part of text.split(/(?<=[/?&])/)) element.append(part, make("wbr"));
  return element;
}

// Sources of the same name are told apart by their place.
function nameOf(one) {
  return state.sources.filter((other) => other.name === one.name).length > 1 ? `${one.name} #${one.source}` : one.name;
}

function pair(term, text, attributes) {
  return [make("dt", term), make("dd", text, attributes)];
}

const count = (value) => value.toLocaleString("en");
const percent = (value) => `${(value * 100).toFixed(1)} %`;
const ms = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const rate = (value) => (value === null ? "–" : value.toFixed(value < 10 ? 1 : 0));
const sum = (values) => values.reduce((total, value) => total + value, 0);

function span(seconds) {
  const [s, m, h] = [Math.floor(seconds), Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (s < 60) return `${s} s`;
  if (m < 60) return `${m} min ${s % 60} s`;
  if (h < 24) return `${h} h ${m % 60} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

// ---- the picture: a stream; single pictures where there are too many viewers already

let state = null, source = 0, timer = 0, streaming = false, began = 0;

function look() {
  stopLooking();
  if (state === null || !state.preview || document.hidden) return;
  streaming = true;
  began = Date.now();
  $("picture").src = `/stream.mjpg?source=${source}&at=${began}`;
}

function stopLooking() {
  clearTimeout(timer);
  streaming = false;
  $("picture").removeAttribute("src");
}

function single() {
  if (document.hidden) return;
  if (Date.now() - began > STREAM_AGAIN_MS) return look();
  $("picture").src = `/snapshot.jpg?source=${source}&at=${Date.now()}`;
}

$("picture").addEventListener("load", () => {
  const { naturalWidth: width, naturalHeight: height } = $("picture");
  $("picture").parentElement.style.aspectRatio = `${width} / ${height}`;
  $("picture").hidden = false;
  showVeil();
  if (!streaming) timer = setTimeout(single, SINGLE_MS);
});
$("picture").addEventListener("error", () => {
  if (!$("picture").hasAttribute("src")) return;
  streaming = false;
  clearTimeout(timer);
  timer = setTimeout(single, 2 * EVERY_MS);
});

function choose(number) {
  source = number;
  $("picture").hidden = true;
  look();
  show();
}

// ---- what is shown

function show() {
  const many = state.sources.length > 1;
  document.title = `${state.bundle} · edgedistill`;
  $("bundle").textContent = state.bundle;
  $("facts").textContent = `${state.file} · ${state.engine} · ${state.threads} ${state.threads === 1 ? "thread" : "threads"}`;
  $("quality").hidden = false;
  $("quality").dataset.word = state.quality;
  $("quality").replaceChildren(make("span", "quality"), state.quality);
  $("view").hidden = !state.preview;
  showVeil();
  $("choice").hidden = !many;
  $("choice").replaceChildren(...(many ? state.sources.map(choiceButton) : []));
  $("answers").replaceChildren(...state.sources.map((one) => answer(one, many)));
  $("figures").replaceChildren(...figures());
  $("sources").replaceChildren(...state.sources.map(sourceBlock));
  $("outputs-card").hidden = state.outputs.length === 0;
  $("outputs").replaceChildren(...state.outputs.flatMap(outputRows));
  $("machine").replaceChildren(...machine());
  $("stages").replaceChildren(...[...PARTS, "total"].filter((stage) => stage in state.stages_ms).map(stageRow));
  draw();
}

function draw() {
  if (state !== null) drawLatency($("graph"), state.history);
}

function showVeil() {
  const now = state.sources[source];
  const age = now.age_s === null ? "No frame yet" : `Last frame ${span(now.age_s)} ago`;
  let text = "";
  if (now.state === "reconnecting") text = `${nameOf(now)} is away, reconnecting\n${age}`;
  else if (now.state === "opening") text = `Opening ${nameOf(now)}\n${age}`;
  else if (now.state === "ended") text = `${nameOf(now)} has ended`;
  else if ($("picture").hidden) text = "Waiting for the first picture";
  if ($("veil").textContent !== text) $("veil").textContent = text;
  $("veil").hidden = text === "";
}

function choiceButton(one) {
  const button = named("button", nameOf(one), { type: "button", "aria-pressed": String(one.source === source) });
  button.addEventListener("click", () => choose(one.source));
  return button;
}

function answer(one, many) {
  const block = make("div", null, one.state === "running" ? {} : { class: "old" });
  if (many) block.append(named("p", nameOf(one), { class: "quiet" }));
  const [best, ...others] = one.answer ?? [];
  if (best === undefined) block.append(make("p", one.answer === null ? "No result yet" : "Nothing above the threshold", { class: "none" }));
  else block.append(line("best", best.label, percent(best.score)), bar(best.score));
  for (const other of others) block.append(line("other", other.label, percent(other.score)), bar(other.score));
  return block;
}

function line(kind, left, right) {
  const found = make("p", null, { class: kind });
  found.append(make("span", left), make("span", right));
  return found;
}

function bar(score) {
  const track = make("div", null, { class: "bar" }), filled = make("i");
  filled.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  track.append(filled);
  return track;
}

function figures() {
  const total = state.stages_ms.total;
  const dropped = sum(state.sources.flatMap((one) => Object.values(one.dropped)));
  return [
    ["Results", rate(state.fps), "a second"],
    ["Frame to result, p50", total ? ms(total.p50) : "–", "ms"],
    ["Dropped frames", count(dropped), `of ${count(sum(state.sources.map((one) => one.captured)))}`],
    ["Frame to result, p99", total ? ms(total.p99) : "–", "ms"],
  ].map(([term, value, unit]) => {
    const box = make("div"), shown = make("dd", value);
    shown.append(make("small", unit));
    box.append(make("dt", term), shown);
    return box;
  });
}

function sourceBlock(one) {
  const block = make("div", null, { class: "source" }), head = make("h3"), list = make("dl", null, { class: "pairs" });
  const away = one.state === "opening" || one.state === "reconnecting";
  const word = make("span", one.state === "running" ? one.quality : one.state);
  if (one.state !== "ended") word.dataset.word = away ? "poor" : one.quality;
  head.append(named("span", nameOf(one)), word);
  const expected = one.expected_fps === null ? "" : ` of ${rate(one.expected_fps)}`;
  list.append(...pair("Frames a second", `${rate(one.fps)}${expected}`));
  const causes = Object.entries(one.dropped).filter(([, lost]) => lost > 0);
  for (const [cause, lost] of causes) list.append(...pair(`Dropped: ${cause}`, count(lost)));
  if (causes.length === 0) list.append(...pair("Dropped", "0"));
  list.append(...pair("Reconnects", count(one.reconnects)), ...pair("Stalls", count(one.stalls)));
  block.append(head, list);
  return block;
}

function outputRows(one) {
  const row = make("tr");
  row.append(make("td", one.name), make("td", count(one.written)), make("td", count(one.dropped)), make("td", count(one.failed)));
  if (one.error === null) return [row];
  const told = make("tr"), cell = make("td", one.error, { colspan: "4", class: "error" });
  told.append(cell);
  return [row, told];
}

function machine() {
  const { temperature_c: heat, throttled, rss_mb: memory } = state.machine;
  const found = pair("Temperature", heat === null ? "not told" : `${heat.toFixed(0)} °C`);
  if (throttled === null) found.push(...pair("Throttling", "not told"));
  else if (throttled.length === 0) found.push(...pair("Throttling", "none"));
  else found.push(...pair("Throttling", throttled.join(", "), { class: "warn" }));
  if (memory !== null) found.push(...pair("Memory", `${memory.toFixed(0)} MB`));
  found.push(...pair("Running for", span(state.uptime_s)), ...pair("Results", count(state.results)));
  return found;
}

function stageRow(stage) {
  const row = make("tr", null, { "data-stage": stage }), name = make("td"), found = state.stages_ms[stage];
  name.append(make("span", "", { class: "swatch" }), stage);
  row.append(name, ...["p50", "p90", "p99", "max"].map((which) => make("td", ms(found[which]))));
  return row;
}

// ---- asking

let lostSince = null;

function tell(text) {
  $("notice").hidden = text === "";
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

function away(reason) {
  lostSince ??= Date.now();
  document.body.classList.add("lost");
  $("quality").hidden = false;
  $("quality").dataset.word = "lost";
  $("quality").textContent = "no connection";
  tell(reason ?? `Connection lost ${span((Date.now() - lostSince) / 1000)} ago, trying again. What is shown is old.`);
}

async function ask() {
  try {
    const answer = await fetch("/state.json?history", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (answer.status === 401) return away("The token is no longer valid: open the page with its token again.");
    if (!answer.ok) return away();
    const first = state === null || lostSince !== null;
    state = await answer.json();
    if (source >= state.sources.length) source = 0;
    lostSince = null;
    document.body.classList.remove("lost");
    tell(state.ready ? "" : `Not ready: ${state.reason}`);
    if (first || (streaming && Date.now() - began > STREAM_LONGEST_MS)) look();
    show();
  } catch (error) {
    if (error instanceof TypeError || error.name === "TimeoutError" || error.name === "AbortError" || error instanceof SyntaxError) away();
    else throw error;
  }
}

async function goOn() {
  try {
    if (!document.hidden) await ask();
  } finally {
    setTimeout(goOn, EVERY_MS);
  }
}

document.addEventListener("visibilitychange", () => (document.hidden ? stopLooking() : look()));
new ResizeObserver(draw).observe($("graph"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
goOn();
