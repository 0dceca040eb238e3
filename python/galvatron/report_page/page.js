"use strict";
// Hover, keyboard, zooming and the choices of a report. What is shown is in the page already; all texts go in as text.
(() => {
const data = JSON.parse(document.getElementById("galvatron-data").textContent);
const tooltip = document.getElementById("tooltip");
const SVG = "http://www.w3.org/2000/svg";
const ITEMS = ".item, .unit";

function make(name, attributes, content) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (content !== undefined) element.textContent = content;
  return element;
}

// ---- The tooltip: of what the pointer is on, or the focus.
function tellOf(element) { return element.dataset.tip || element.getAttribute("aria-label") || ""; }

function showTip(element) {
  tooltip.textContent = tellOf(element);
  tooltip.hidden = false;
  const box = element.getBoundingClientRect(), own = tooltip.getBoundingClientRect();
  const left = Math.min(Math.max(4, box.left), Math.max(4, document.documentElement.clientWidth - own.width - 4));
  const below = box.bottom + 6, above = box.top - own.height - 6;
  const top = below + own.height < window.innerHeight || above < 4 ? Math.min(below, window.innerHeight - own.height - 4) : above;
  tooltip.style.left = left + "px";
  tooltip.style.top = Math.max(4, top) + "px";
  element.setAttribute("aria-describedby", "tooltip");
}
function hideTip() {
  tooltip.hidden = true;
  for (const element of document.querySelectorAll("[aria-describedby=tooltip]")) element.removeAttribute("aria-describedby");
}
document.addEventListener("pointerover", event => {
  const element = event.target.closest(ITEMS);
  if (element) { hideTip(); showTip(element); }
});
document.addEventListener("pointerout", event => {
  if (event.target.closest(ITEMS)) {
    hideTip();
    if (document.activeElement.matches(ITEMS)) showTip(document.activeElement);
  }
});
document.addEventListener("focusin", event => {
  hideTip();
  if (event.target.matches(ITEMS)) showTip(event.target);
});
document.addEventListener("focusout", hideTip);
window.addEventListener("scroll", () => { if (!tooltip.hidden && !document.activeElement.matches(ITEMS)) hideTip(); }, true);

// ---- The keyboard: Tab comes to a drawing, arrows go on within it, Enter chooses, Escape closes.
function shown(element) { return element.getClientRects().length > 0 && !element.hasAttribute("hidden"); }

function goTo(drawing, element) {
  for (const other of drawing.querySelectorAll("[tabindex='0']")) other.setAttribute("tabindex", -1);
  element.setAttribute("tabindex", 0);
  element.focus();
}
document.addEventListener("keydown", event => {
  if (event.key === "Escape") {
    hideTip();
    for (const element of document.querySelectorAll(".chosen")) element.classList.remove("chosen");
    return;
  }
  const element = event.target, drawing = element.closest && element.matches(ITEMS) && element.closest("[data-drawing]");
  if (!drawing) return;
  const items = [...drawing.querySelectorAll(ITEMS)].filter(shown), at = items.indexOf(element);
  const next = {ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: items.length - 1}[event.key];
  if (next !== undefined) {
    event.preventDefault();
    if (items[next]) goTo(drawing, items[next]);
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(element);
  }
});
document.addEventListener("click", event => {
  const element = event.target.closest(ITEMS);
  if (element) { goTo(element.closest("[data-drawing]"), element); choose(element); }
});

// ---- Choosing: of a module the grid of its ranks.
function choose(element) {
  showTip(element);
  if (element.dataset.unit === undefined || !element.closest("#strategies")) return;
  for (const other of document.querySelectorAll("#strategies .unit")) other.setAttribute("aria-pressed", other === element);
  showRanks(data.units.find(unit => unit.path === element.dataset.unit));
}
function showRanks(unit) {
  const where = document.getElementById("ranks");
  where.replaceChildren();
  if (!unit) return;
  const groups = data.groups[unit.strategy] || {}, first = unit.stage * data.devices, count = data.devices;
  const names = Object.keys(groups), fastest = names.length ? groups[names[names.length - 1]] : [];
  const title = document.createElement("p");
  title.textContent = `${unit.path}: ${unit.strategy}, stage ${unit.stage}, ranks ${first} to ${first + count - 1}`;
  where.append(title);
  const columns = fastest.length ? fastest[0].length : Math.min(count, 16), cell = 30;
  const order = fastest.length ? fastest.flat() : [...Array(count).keys()];
  const rows = Math.ceil(order.length / columns), width = Math.max(columns * cell, 60);
  const svg = make("svg", {width, height: rows * cell, viewBox: `0 0 ${width} ${rows * cell}`, role: "img",
    "aria-label": `grid of the ranks of stage ${unit.stage}`});
  order.slice(0, 512).forEach((rank, index) => {
    const x = index % columns * cell, y = Math.floor(index / columns) * cell;
    svg.append(make("rect", {x: x + 1, y: y + 1, width: cell - 2, height: cell - 2, class: `leaf s-${Math.floor(index / columns) % 10}`}));
    svg.append(make("text", {x: x + cell / 2, y: y + cell / 2 + 4, "text-anchor": "middle", class: "within"}, first + rank));
  });
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "ranks of the chosen module");
  scroll.append(svg);
  where.append(scroll);
  const list = document.createElement("ul");
  for (const name of names) {
    const item = document.createElement("li");
    const few = groups[name].slice(0, 16).map(group => `{${group.slice(0, 16).map(rank => first + rank).join(" ")}${group.length > 16 ? " …" : ""}}`);
    item.textContent = `${name}: ${few.join(" ")}${groups[name].length > 16 ? ` and ${groups[name].length - 16} more` : ""}`;
    item.dataset.groups = name;
    list.append(item);
  }
  if (!names.length) {
    const item = document.createElement("li");
    item.textContent = count === 1 ? "one rank, no groups" : "the order of its ranks is the compiler's: the plan names no mesh";
    list.append(item);
  }
  where.append(list);
}
showRanks(data.units[0]);

// ---- The timeline: zoomed, it is drawn anew from the spans in the data.
const LABEL = 210, WIDTH = 1100, LANE = 13, GAP = 3, TOP = 22, MOST = 3500;
const steps = {};
for (const source of data.timeline.sources) {
  const all = Object.keys(source.steps);
  steps[source.source] = all[Math.floor(all.length / 2)];
}
let range = null;

function duration(seconds) {
  return Math.abs(seconds) >= 1 ? `${Number(seconds.toPrecision(3))} s` : `${(seconds * 1e3).toFixed(seconds < 1e-5 ? 6 : 3)} ms`;
}
function allLanes() {
  const lanes = [];
  for (const source of data.timeline.sources) for (const lane of source.steps[steps[source.source]]) lanes.push([source, lane]);
  const key = ([source, lane]) => [lane.stage, source.source === "measured" ? 1 : 0, lane.rank];
  return lanes.sort((a, b) => { const p = key(a), q = key(b); return p[0] - q[0] || p[1] - q[1] || p[2] - q[2]; });
}
function merged(spans, from, to, narrowest) {
  const drawn = [];
  for (const span of spans) {
    const start = span[0], end = span[0] + span[1], short = span[1] < narrowest, last = drawn[drawn.length - 1];
    if (end < from || start > to) continue;
    if (short && last && last.short && start - last.end < narrowest) { last.end = Math.max(last.end, end); last.many += 1; }
    else drawn.push({span, start, end, many: 1, short});
  }
  return drawn;
}
function drawTimeline() {
  const svg = document.getElementById("timeline-drawing");
  if (!svg) return;
  const lanes = allLanes();
  let longest = 0;
  for (const [, lane] of lanes) for (const span of lane.spans) longest = Math.max(longest, span[0] + span[1]);
  const [from, to] = range || [0, longest], scale = (WIDTH - LABEL) / (to - from), height = TOP + lanes.length * (LANE + GAP);
  let narrowest = 1 / scale, all = [];
  for (let tries = 0; tries < 40; ++tries, narrowest *= 1.5) {
    all = lanes.map(([, lane]) => merged(lane.spans, from, to, narrowest));
    if (all.reduce((sum, one) => sum + one.length, 0) <= MOST) break;
  }
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren();
  for (let tick = 0; tick <= 5; ++tick) {
    const x = LABEL + (WIDTH - LABEL) * tick / 5;
    svg.append(make("path", {class: "axis", d: `M${x},14L${x},${height}`}));
    svg.append(make("text", {x, y: 11, class: "soft", "text-anchor": tick === 5 ? "end" : tick ? "middle" : "start"},
      duration(from + (to - from) * tick / 5)));
  }
  let first = true;
  lanes.forEach(([source, lane], number) => {
    const top = TOP + number * (LANE + GAP), words = `${source.source}, rank ${lane.rank}: ${lane.stream}`;
    svg.append(make("text", {x: 0, y: top + LANE - 3}, words.length <= 36 ? words : words.slice(0, 35) + "…"));
    for (const {span, start, end, many} of all[number]) {
      const left = Math.max(start, from), right = Math.min(end, to);
      const name = data.timeline.names[span[2]] + (span[4] >= 0 ? ` micro-batch ${span[4]}` : "") + (many > 1 ? ` and ${many - 1} more` : "");
      svg.append(make("rect", {class: `item c-${data.timeline.categories[span[3]]}`, x: LABEL + (left - from) * scale, y: top,
        width: Math.max((right - left) * scale, 0.5), height: LANE, role: "img", tabindex: first ? 0 : -1,
        "aria-label": `${name}\n${source.source}, stage ${lane.stage}, ${duration(end - start)} from ${duration(start)}`,
        "data-source": source.source, "data-stage": lane.stage, "data-start": start, "data-duration": end - start}));
      first = false;
    }
  });
}
function zoom(factor, centre) {
  let longest = 0;
  for (const [, lane] of allLanes()) for (const span of lane.spans) longest = Math.max(longest, span[0] + span[1]);
  const [from, to] = range || [0, longest], length = Math.min((to - from) * factor, longest);
  const middle = centre === undefined ? (from + to) / 2 : centre;
  const share = (middle - from) / (to - from || 1);
  const begin = Math.min(Math.max(0, middle - length * share), longest - length);
  range = factor === 0 || length >= longest ? null : [begin, begin + length];
  drawTimeline();
}
function pan(share) {
  if (!range) return;
  let longest = 0;
  for (const [, lane] of allLanes()) for (const span of lane.spans) longest = Math.max(longest, span[0] + span[1]);
  const length = range[1] - range[0], begin = Math.min(Math.max(0, range[0] + share * length), longest - length);
  range = [begin, begin + length];
  drawTimeline();
}
for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
for (const button of document.querySelectorAll("[data-pan]")) button.addEventListener("click", () => pan(Number(button.dataset.pan)));
const chosenStep = document.getElementById("traced-step");
if (chosenStep) chosenStep.addEventListener("change", () => { steps.measured = chosenStep.value; range = null; drawTimeline(); });
const timeline = document.getElementById("timeline-drawing");
if (timeline) timeline.addEventListener("wheel", event => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const box = timeline.getBoundingClientRect(), x = (event.clientX - box.left) * WIDTH / box.width;
  let longest = 0;
  for (const [, lane] of allLanes()) for (const span of lane.spans) longest = Math.max(longest, span[0] + span[1]);
  const [from, to] = range || [0, longest];
  zoom(event.deltaY < 0 ? 0.7 : 1.4, from + (to - from) * Math.min(Math.max((x - LABEL) / (WIDTH - LABEL), 0), 1));
}, {passive: false});

// ---- Training: runs on and off, steps or tokens, logarithmic or not.
const AREA = {width: 640, height: 200, left: 70, bottom: 24, top: 12, right: 12};
const chooseAxis = document.getElementById("training-axis"), chooseLog = document.getElementById("training-log");
const off = new Set();

function drawChart(svg) {
  const metric = svg.dataset.chart, isLog = chooseLog.checked, factor = chooseAxis.value === "tokens" ? data.tokens_per_step : 1;
  const scale = value => isLog ? (value > 0 ? Math.log10(value) : null) : value;
  let first = Infinity, last = -Infinity, low = Infinity, high = -Infinity;
  const runs = data.runs.filter(run => run.curves[metric] && !off.has(run.name));
  for (const run of runs) run.curves[metric].step.forEach((step, index) => {
    const raw = run.curves[metric].value[index], value = raw === null ? null : scale(raw);
    first = Math.min(first, step); last = Math.max(last, step);
    if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  });
  for (const gap of svg.querySelectorAll(".gap")) gap.remove();
  const inner = AREA.width - AREA.left - AREA.right, tall = AREA.height - AREA.top - AREA.bottom, base = AREA.height - AREA.bottom;
  const flat = low === high;
  if (flat) { const by = isLog ? 0.05 : (Math.abs(low) || 1) * 0.05; low -= by; high += by; }
  const x = step => AREA.left + inner * (last > first ? (step - first) / (last - first) : 0.5);
  const y = value => AREA.top + tall * (1 - (value - low) / (high - low));
  for (const path of svg.querySelectorAll("path[data-run]")) {
    const run = runs.find(each => each.name === path.dataset.run);
    if (run) path.removeAttribute("hidden"); else { path.setAttribute("hidden", ""); path.setAttribute("d", ""); continue; }
    const words = [];
    let pen = false, alone = false;
    const close = () => { if (alone) words.push(words[words.length - 1].replace("M", "L")); pen = alone = false; };
    run.curves[metric].step.forEach((step, index) => {
      const raw = run.curves[metric].value[index], value = raw === null ? null : scale(raw);
      if (value === null) {
        close();
        if (raw === null) svg.append(make("text", {class: "gap", "data-gap": run.name, x: x(step).toFixed(1), y: base - 2, "text-anchor": "middle"}, "×"));
        return;
      }
      words.push(`${pen ? "L" : "M"}${x(step).toFixed(2)},${y(value).toFixed(2)}`);
      alone = !pen;
      pen = true;
    });
    close();
    path.setAttribute("d", words.join(""));
  }
  const say = value => Number(value.toPrecision(4)).toString(), back = value => isLog ? 10 ** value : value;
  const set = (name, words) => { svg.querySelector("." + name).textContent = words; };
  if (first <= last) { set("first", say(first * factor)); set("last", say(last * factor)); }
  if (low <= high) { set("high", say(back(high))); set("low", say(back(low))); }
}
function drawCharts() { for (const svg of document.querySelectorAll("[data-chart]")) drawChart(svg); }
if (chooseAxis) {
  chooseAxis.addEventListener("change", drawCharts);
  chooseLog.addEventListener("change", drawCharts);
  for (const box of document.querySelectorAll("[data-toggle]")) box.addEventListener("change", () => {
    if (box.checked) off.delete(box.dataset.toggle); else off.add(box.dataset.toggle);
    drawCharts();
  });
}

// ---- On paper every table is open.
window.addEventListener("beforeprint", () => {
  for (const element of document.querySelectorAll("details:not([open])")) { element.open = true; element.dataset.closed = ""; }
});
window.addEventListener("afterprint", () => {
  for (const element of document.querySelectorAll("details[data-closed]")) { element.open = false; delete element.dataset.closed; }
});
})();
