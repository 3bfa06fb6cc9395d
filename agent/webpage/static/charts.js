// charts.js draws the last hour of the GPUs. A reading is [time, [index, utilisation,
// memory, temperature, power, clock, throttle bits], …], as /gpus.json and the stream of
// events have it.

const W = 600, H = 150; // of a drawing, which is stretched to its place
const figures = {
  utilization: { at: 1, name: "utilisation", unit: "%", digits: 0, top: () => 100 },
  memory: { at: 2, name: "memory", unit: "GiB", digits: 1, top: (gpu) => gpu?.memory_gib },
  temperature: { at: 3, name: "temperature", unit: "°C", digits: 0, top: () => 100 },
  power: { at: 4, name: "power", unit: "W", digits: 0, top: (gpu) => gpu?.power_w },
  clock: { at: 5, name: "SM clock", unit: "MHz", digits: 0, top: () => 0 },
};
const cap = 1 << 2, slow = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7; // bits of nvmlClocksEventReasons
const svg = (name, attributes = {}) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
};
const text = (v, f) => v == null ? "–" : `${v.toFixed(f.digits)} ${f.unit}`;

// showFigures writes the figures of a reading where a view has them.
export function showFigures([, ...gpus]) {
  for (const gpu of gpus) {
    for (const card of document.querySelectorAll(`[data-gpu="${gpu[0]}"]`)) {
      for (const part of card.querySelectorAll("[data-figure]")) {
        const name = part.dataset.figure;
        if (name === "load") {
          part.value = gpu[1] ?? 0;
          continue;
        }
        let shown = text(gpu[figures[name].at], figures[name]);
        if (name === "memory") { // "1.0 of 80 GiB" keeps its total
          const total = part.textContent.match(/ of (\S+)/);
          if (total && gpu[2] != null) shown = `${gpu[2].toFixed(1)} of ${total[1]} GiB`;
        }
        if (part.textContent !== shown) part.textContent = shown;
      }
    }
  }
}

// Charts are one chart for each GPU of a view.
export class Charts {
  constructor(root, base) {
    this.root = root;
    this.url = base + "/gpus.json";
    this.readings = [];
    this.gpus = new Map();
    this.jobs = [];
    this.reasons = {};
    this.span = 3600e3;
    this.ahead = 0;
    this.figure = "utilization";
    this.cursor = null; // time under the pointer
    this.charts = [...root.querySelectorAll("[data-chart]")].map((e) => this.prepare(e));
    for (const choice of document.querySelectorAll("input[name=figure]")) {
      choice.addEventListener("change", () => {
        this.figure = choice.value;
        this.draw();
      });
      if (choice.checked) this.figure = choice.value;
    }
  }

  prepare(element) {
    const chart = { element, index: Number(element.dataset.chart) };
    chart.svg = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    chart.jobs = svg("g");
    chart.area = svg("path", { class: "area" });
    chart.line = svg("path", { class: "line" });
    chart.marks = svg("g");
    chart.cross = svg("line", { class: "cross", y1: 0, y2: H, visibility: "hidden" });
    const grid = svg("g");
    for (const y of [0.5, H / 2, H - 0.5]) grid.append(svg("line", { class: "grid", x1: 0, x2: W, y1: y, y2: y }));
    chart.svg.append(chart.jobs, grid, chart.area, chart.line, chart.marks, chart.cross);
    const part = (name) => {
      const e = document.createElement("div");
      e.className = name;
      element.append(e);
      return e;
    };
    element.append(chart.svg);
    chart.scale = part("scale");
    chart.ticks = part("ticks");
    for (let i = 0; i <= 4; i++) chart.ticks.append(document.createElement("span"));
    chart.tip = part("tip");
    chart.tip.hidden = true;
    element.addEventListener("pointermove", (e) => {
      const box = chart.svg.getBoundingClientRect();
      this.point(this.start() + this.span * Math.min(1, Math.max(0, (e.clientX - box.left) / box.width)));
    });
    element.addEventListener("pointerleave", () => this.point(null));
    element.addEventListener("blur", () => this.point(null));
    element.addEventListener("keydown", (e) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[e.key];
      if (!by) return;
      e.preventDefault();
      this.point(Math.min(this.end(), Math.max(this.start(), (this.cursor ?? this.end()) + by * 30e3)), chart);
    });
    return chart;
  }

  end() { return Date.now() + this.ahead; }
  start() { return this.end() - this.span; }

  async load() {
    const answer = await fetch(this.url).catch(() => null);
    if (!answer?.ok) return;
    const data = await answer.json();
    this.ahead = data.now - Date.now();
    this.readings = data.readings;
    this.reasons = data.reasons;
    this.jobs = data.jobs;
    this.loaded = Date.now();
    for (const gpu of data.gpus) this.gpus.set(gpu.index, gpu);
    this.draw();
  }

  add(reading) {
    const last = this.readings.at(-1);
    if (last && reading[0] <= last[0]) return;
    this.readings.push(reading);
    while (this.readings.length && this.readings[0][0] < this.start() - 60e3) this.readings.shift();
    if (Date.now() - (this.loaded ?? 0) > 30e3) this.load(); // for the jobs, and to thin what came since
    else this.draw();
  }

  // fit makes the charts as wide as what there is of the last hour.
  fit() {
    const known = this.end() - (this.readings[0]?.[0] ?? this.end());
    const minutes = [4, 12, 30].find((m) => known < m * 60e3) ?? 60;
    this.span = minutes * 60e3;
    for (const chart of this.charts) {
      [...chart.ticks.children].forEach((tick, i) => {
        const text = i < 4 ? `−${minutes * (4 - i) / 4} min` : "now";
        if (tick.textContent !== text) tick.textContent = text;
      });
    }
  }

  draw() {
    this.fit();
    for (const chart of this.charts) this.drawOne(chart);
    if (this.cursor != null) this.point(this.cursor);
  }

  drawOne(chart) {
    const f = figures[this.figure], from = this.start(), x = (t) => ((t - from) / this.span * W).toFixed(1);
    const points = [];
    for (const reading of this.readings) {
      const gpu = reading.find((g) => g[0] === chart.index && Array.isArray(g));
      if (gpu && reading[0] >= from) points.push([reading[0], gpu[f.at], gpu[6]]);
    }
    const values = points.map((p) => p[1]).filter((v) => v != null);
    const top = Math.max(f.top(this.gpus.get(chart.index)) || 0, ...values, 1) * (f.top(this.gpus.get(chart.index)) ? 1 : 1.1);
    const y = (v) => (H - v / top * H).toFixed(1);
    // A gap of more than 70 s is one: readings come every 30 s at least.
    let line = "", area = "", first = null, previous = null;
    const close = () => { if (first) area += `L${x(previous)} ${H}L${x(first)} ${H}Z`; };
    for (const [t, v] of points) {
      if (v == null) continue;
      if (previous == null || t - previous > 70e3) {
        close();
        line += `M${x(t)} ${y(v)}`;
        area += `M${x(t)} ${y(v)}`;
        first = t;
      } else {
        line += `L${x(t)} ${y(v)}`;
        area += `L${x(t)} ${y(v)}`;
      }
      previous = t;
    }
    close();
    chart.line.setAttribute("d", line);
    chart.area.setAttribute("d", area);
    chart.marks.replaceChildren(...this.marks(points, x));
    chart.jobs.replaceChildren(...this.jobs.flatMap((job) => {
      const a = Math.max(0, x(job.from)), b = Math.min(W, job.to ? x(job.to) : W);
      if (b <= 0) return [];
      const parts = [svg("rect", { class: "job", x: a, y: 0, width: Math.max(0.5, b - a), height: H })];
      if (a > 0) parts.push(svg("line", { class: "edge", x1: a, x2: a, y1: 0, y2: H }));
      if (job.to) parts.push(svg("line", { class: "edge", x1: b, x2: b, y1: 0, y2: H }));
      return parts;
    }));
    chart.scale.textContent = text(top, { ...f, digits: 0 });
    chart.points = points;
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const throttled = points.some((p) => p[2] & (cap | slow));
    const label = values.length
      ? `GPU ${chart.index}, ${f.name} over the last hour: now ${text(values.at(-1), f)}, mean ${text(mean, f)}, highest ${text(Math.max(...values), f)}${throttled ? "; throttled at times" : ""}. Arrow keys read single values.`
      : `GPU ${chart.index}, ${f.name}: nothing was read in the last hour`;
    if (chart.element.getAttribute("aria-label") !== label) chart.element.setAttribute("aria-label", label);
  }

  // marks are bars at the bottom where the GPU was throttled.
  marks(points, x) {
    const bars = [];
    let open = null;
    points.forEach(([t, , bits], i) => {
      const kind = bits & slow ? "slow" : bits & cap ? "cap" : null;
      const next = points[i + 1]?.[0] ?? t + 1000;
      const end = Math.min(next, t + 70e3);
      if (!kind) {
        open = null;
      } else if (open?.kind === kind) {
        open.to = end;
      } else {
        bars.push(open = { kind, from: t, to: end });
      }
    });
    return bars.map((b) => svg("rect", { class: b.kind, x: x(b.from), y: H - 6, width: Math.max(1.5, x(b.to) - x(b.from)), height: 6 }));
  }

  // point shows what all charts have at a time; said is the chart that says it.
  point(t, said) {
    this.cursor = t;
    const f = figures[this.figure];
    for (const chart of this.charts) {
      const near = t == null ? null : chart.points?.findLast((p) => p[0] <= t) ?? chart.points?.[0];
      const shown = near && Math.abs(near[0] - t) < 70e3 || near && t >= this.end() - 1000;
      chart.cross.setAttribute("visibility", shown ? "visible" : "hidden");
      chart.tip.hidden = !shown;
      if (!shown) continue;
      const at = (near[0] - this.start()) / this.span * W;
      chart.cross.setAttribute("x1", at);
      chart.cross.setAttribute("x2", at);
      const why = Object.entries(this.reasons).filter(([bit]) => near[2] & 1 << bit).map(([, name]) => name.replaceAll("_", " "));
      const job = this.jobs.find((j) => j.from <= near[0] && (!j.to || near[0] <= j.to));
      chart.tip.textContent = [new Date(near[0]).toLocaleTimeString(), text(near[1], f), ...why, job?.model].filter(Boolean).join(" · ");
      if (chart === said) document.getElementById("chart-said").textContent = `GPU ${chart.index}: ${chart.tip.textContent}`;
    }
  }
}
