"use strict";
// Draws the figures from the two JSON blocks of the page. Every text that came from the result is escaped: Plotly
// reads a little HTML in its labels.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const result = read("result");
  const view = read("view");
  const runs = (result.runs || []).map((run, index) => ({ ...run, ...view.runs[index], place: index }));
  const KNOWN = ["ft", "bitfit", "adapter", "lora", "federa"];
  const PHASES = ["idle", "download", "load", "train", "upload", "evaluate"];
  const DASHES = ["solid", "dot", "dash", "dashdot", "longdash"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star"];
  const hidden = new Set();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const number = (value) => typeof value === "number" && Number.isFinite(value);
  const exact = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 12 });
  const hue = (run) => css(KNOWN.includes(run.method) ? run.method : "other");
  const short = (value) => String(Number(value.toPrecision(4)));
  const score = (value) => (view.percent ? short(100 * value) + "\u00a0%" : short(value));

  function unitOf(largest, units) {
    let chosen = units[0];
    for (const unit of units) if (largest >= unit[2]) chosen = unit;
    return chosen; // [size of one, name, from which value on]
  }
  const CLOCK = { 1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h", 360000: "100 h" };
  const TIME = [[1, "s", 0], [60, "min", 180], [3600, "h", 10800]];
  const BYTES = [[1, "B", 0], [1e3, "kB", 1e3], [1e6, "MB", 1e6], [1e9, "GB", 1e9], [1e12, "TB", 1e12]];
  const ENERGY = [[1, "J", 0], [1e3, "kJ", 1e4], [1e6, "MJ", 1e7]];
  const human = (value, units) => {
    if (value === 0) return "0";
    const [size, name] = unitOf(value, units);
    return short(value / size) + "\u00a0" + name;
  };

  // Ticks of our own: Plotly knows neither minutes nor kB, and the axes cannot be zoomed.
  function linearTicks(low, high, size, label, wish) {
    const rough = (high - low) / size / wish;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = size * power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const tickvals = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) tickvals.push(i * step);
    return { type: "linear", range: [low, high], tickvals, ticktext: tickvals.map(label) };
  }
  function logTicks(low, high, units) {
    const powers = Array.from({ length: 16 }, (_, power) => 10 ** power);
    const factors = high / low < 50 ? [1, 2, 5] : [1];
    const decimal = powers.flatMap((power) => factors.map((factor) => factor * power));
    const steps = units === TIME ? Object.keys(CLOCK).map(Number) : decimal;
    const ends = [low / 1.4, high * 1.4];
    const tickvals = steps.filter((value) => value >= ends[0] && value <= ends[1]);
    const ticktext = tickvals.map((value) => (units === TIME ? CLOCK[value] : human(value, units)));
    return { type: "log", range: ends.map(Math.log10), tickvals, ticktext };
  }
  const unitTicks = (high, units, wish) => {
    const [size, name] = unitOf(high, units);
    return linearTicks(0, high, size, (value) => (value === 0 ? "0" : short(value / size) + "\u00a0" + name), wish);
  };

  const sum = (down, up) => (number(down) && number(up) ? down + up : null);
  const QUANTITY = {
    time: { of: (point) => point.elapsed_s, target: (run) => run.time_to_target_s, title: "time" },
    bytes: { of: (at) => sum(at.bytes_down, at.bytes_up), target: (run) => run.bytes_to_target, title: "bytes" },
    energy: { of: (point) => point.energy_j, target: (run) => run.joules_to_target, title: "energy" },
    value: { of: (point) => point.value, target: (run) => run.target, title: view.metric },
  };
  function axis(kind, values, wish, among) {
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (kind !== "value") {
      const units = { time: TIME, bytes: BYTES, energy: ENERGY }[kind];
      const last = (run) => (run.curve || []).map(QUANTITY[kind].of).filter((value) => value > 0).pop();
      const ends = among.map(last).filter(number);
      // Methods differ by orders of magnitude: on one linear scale the small one would lie on the axis.
      const first = values.reduce((least, value) => (value > 0 ? Math.min(least, value) : least), Infinity);
      if (ends.length && Math.max(...ends) > 8 * Math.min(...ends)) return logTicks(first, high, units);
      return unitTicks(high * 1.03 || 1, units, wish);
    }
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const pad = Math.max((high - low) * 0.08, 0.005);
    const top = view.percent ? Math.min(1.004, high + pad) : high + pad;
    const bottom = view.percent ? Math.max(0, low - pad) : low - pad;
    return linearTicks(bottom, top, 1, score, 5);
  }
  const shown = () => runs.filter((run) => !run.facets.some((facet) => hidden.has(facet)));

  function base(extra) {
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
      hovermode: "closest", margin: { l: 8, r: 16, t: 12, b: 8 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("soft") },
      hoverlabel: { align: "left", bgcolor: css("card"), bordercolor: css("soft"), font: { color: css("ink") } },
      ...extra,
    };
  }
  const line = (extra) => ({
    fixedrange: true, automargin: true, zeroline: false, tickmode: "array",
    gridcolor: css("grid"), linecolor: css("rule"), tickcolor: css("rule"), ...extra,
  });
  const OPTIONS = { displayModeBar: false, displaylogo: false };
  function show(node, traces, layout) {
    for (const old of node.querySelectorAll(":scope > .none")) old.remove();
    const size = { width: node.clientWidth, height: node.clientHeight };
    window.Plotly.react(node, traces, { ...layout, ...size }, OPTIONS);
  }
  function say(node, text) {
    window.Plotly.purge(node);
    const words = document.createElement("p");
    words.className = "none";
    words.textContent = text;
    node.replaceChildren(words);
  }

  // What every figure of energy is read with.
  const about = (scope, replay) => ", " + plain(scope || "scope not known") + (replay ? ", replay" : "");
  const replayed = (device) => String(device.power_source ?? "").startsWith("replay of ");

  function hoverText(run, point) {
    const lines = ["<b>" + plain(run.label) + "</b>"];
    if (number(point.round)) lines.push("round " + point.round);
    lines.push(plain(view.metric) + " " + (number(point.value) ? exact(point.value) : "not measured"));
    if (number(point.elapsed_s)) lines.push(exact(point.elapsed_s) + " s");
    if (number(point.bytes_down)) lines.push("down " + exact(point.bytes_down) + " B");
    if (number(point.bytes_up)) lines.push("up " + exact(point.bytes_up) + " B");
    if (number(point.energy_j)) lines.push(exact(point.energy_j) + " J" + about(run.energy_scope, run.energy_is_replay));
    return lines.join("<br>");
  }

  function drawCurve(node) {
    const [across, along] = [QUANTITY[node.dataset.x], QUANTITY[node.dataset.y]];
    const traces = [];
    const [xs, ys] = [[], []];
    const members = node.dataset.runs === undefined ? null : node.dataset.runs.split(",").map(Number);
    const among = shown().filter((run) => members === null || members.includes(run.place));
    for (const run of among) {
      const points = (run.curve || []).filter((point) => number(across.of(point)) && number(along.of(point)));
      if (!points.length) continue;
      const [x, y] = [points.map(across.of), points.map(along.of)];
      for (const value of x) xs.push(value);
      for (const value of y) ys.push(value);
      traces.push({
        type: "scatter", mode: points.length > 80 ? "lines" : "lines+markers", x, y,
        text: points.map((point) => hoverText(run, point)), hoverinfo: "text",
        line: { color: hue(run), width: 2.25, dash: DASHES[run.link % DASHES.length] },
        marker: { color: hue(run), size: 5.5, symbol: SYMBOLS[run.seed_index % SYMBOLS.length] },
      });
    }
    const nothing = hidden.size ? "No run of this selection has a point." : "No round has been evaluated yet.";
    if (!traces.length) return say(node, nothing);
    const targets = node.dataset.y === "value" ? [...new Set(among.map((run) => run.target).filter(number))] : [];
    const xaxis = axis(node.dataset.x, xs, node.clientWidth < 480 ? 4 : 6, among);
    const yaxis = axis(node.dataset.y, ys.concat(targets), 5, among);
    for (const trace of traces) {
      const kept = trace.x.map((x, i) => (x > 0 || xaxis.type !== "log") && (trace.y[i] > 0 || yaxis.type !== "log"));
      for (const key of ["x", "y", "text"]) trace[key] = trace[key].filter((_, i) => kept[i]); // a logarithm has no 0
    }
    for (const run of among) {
      const [x, y] = [across.target(run), along.target(run)];
      if (!run.reached || !number(x) || !number(y)) continue;
      if (node.dataset.y === "bytes") { // down to the time axis: when the target was reached
        const foot = yaxis.type === "log" ? 10 ** yaxis.range[0] : 0;
        const drop = { color: hue(run), width: 1.25, dash: "dash" };
        traces.push({ type: "scatter", mode: "lines", x: [x, x], y: [foot, y], hoverinfo: "skip", line: drop });
      }
      const reachedAt = (run.curve || []).find((point) => across.of(point) === x);
      const height = reachedAt && number(along.of(reachedAt)) ? along.of(reachedAt) : y;
      const words = (reachedAt ? hoverText(run, reachedAt) : "<b>" + plain(run.label) + "</b>") + "<br>target reached";
      traces.push({
        type: "scatter", mode: "markers", x: [x], y: [height], hoverinfo: "text", text: [words],
        marker: { size: 13, symbol: "circle-open", color: hue(run), line: { width: 2.5 } },
      });
    }
    const dashed = { color: css("soft"), width: 1.5, dash: "dash" };
    const shapes = targets.map((y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: dashed }));
    const logarithmic = yaxis.type === "log" ? "Logarithmic scale." : "";
    node.parentElement.querySelector(".scale").textContent = logarithmic;
    const text = plain(across.title) + (xaxis.type === "log" ? " (logarithmic)" : "");
    const title = { text, font: { size: 13 }, standoff: 10 };
    const foot = line({ ...xaxis, title, showgrid: false, showline: true, ticks: "outside" });
    show(node, traces, base({ shapes, xaxis: foot, yaxis: line(yaxis) }));
  }

  function drawBars(node) {
    const run = runs[Number(node.dataset.run)];
    const kind = node.dataset.kind;
    const units = kind === "seconds" ? TIME : ENERGY;
    const devices = node.dataset.devices.split(",").map((place) => run.devices[Number(place)]);
    const found = [...new Set(devices.flatMap((device) => Object.keys(device[kind] || {})))];
    const phases = PHASES.concat(found.filter((phase) => !PHASES.includes(phase)));
    const sums = devices.map((device) => Object.values(device[kind] || {}).filter(number).reduce((a, b) => a + b, 0));
    const high = (Number(node.dataset.largest) || Math.max(...sums)) * 1.02;
    if (!(high > 0)) return say(node, "Nothing has been recorded yet.");
    const rows = devices.map((_, index) => index);
    const unit = (device) => (kind === "seconds" ? " s" : " J" + about(device.scope, replayed(device)));
    const words = (device, phase, value) =>
      `<b>${plain(device.name)}</b><br>${plain(phase)} ${exact(value)}${unit(device)}`;
    const traces = phases.map((phase) => {
      const x = devices.map((device) => (number((device[kind] || {})[phase]) ? device[kind][phase] : null));
      return {
        type: "bar", orientation: "h", y: rows, x, hoverinfo: "text", width: 0.62, textposition: "none",
        text: x.map((value, index) => (value === null ? "" : words(devices[index], phase, value))),
        marker: { color: css(PHASES.includes(phase) ? phase : "other"), line: { color: css("card"), width: 1 } },
      };
    });
    const names = devices.map((device) => String(device.name ?? "device"));
    const ticktext = names.map((name) => plain(name.length > 16 ? name.slice(0, 15) + "…" : name) + "\u00a0");
    node.style.height = 44 * devices.length + 56 + "px";
    const xaxis = line({ ...unitTicks(high, units, node.clientWidth < 480 ? 4 : 7), ticks: "" });
    const yaxis = line({ tickvals: rows, ticktext, range: [devices.length - 0.5, -0.5], showgrid: false });
    show(node, traces, base({ barmode: "stack", xaxis, yaxis }));
  }

  // The area below the line, in a phase's colour, is that phase's joules; a faint band goes on where nothing was
  // measured. One trace a phase, as shapes by the hundred are slow.
  function drawTrace(node) {
    const run = runs[Number(node.dataset.run)];
    const device = run.devices[Number(node.dataset.device)];
    const { bin_s: bin, power_w: watts } = device.trace;
    const from = number(device.trace.from_s) ? device.trace.from_s : 0;
    const spans = (device.trace.phases || []).filter((span) => number(span[0]) && number(span[1]));
    const alike = run.devices.filter((other) => other.scope === device.scope && other.trace);
    const most = (values) => values.filter(number).reduce((a, b) => Math.max(a, b), 0);
    const top = Math.max(most(alike.map((other) => most(other.trace.power_w || []))), device.idle_w || 0) * 1.18 || 1;
    const end = most(run.devices.map(({ trace }) => (trace ? (trace.from_s || 0) + trace.bin_s * trace.power_w.length : 0)));
    const traces = [];
    const filled = (x, y, color, opacity) => traces.push({
      type: "scatter", mode: "lines", x, y, fill: "toself", fillcolor: color, opacity, hoverinfo: "skip",
      line: { width: 0 },
    });
    const names = [...new Set(spans.map((span) => span[3]))];
    for (const phase of names) {
      const color = css(PHASES.includes(phase) ? phase : "other");
      const [band, area] = [{ x: [], y: [] }, { x: [], y: [] }];
      for (const [began, ended, , name] of spans) {
        if (name !== phase) continue;
        band.x.push(began, began, ended, ended, null);
        band.y.push(0, top, top, 0, null);
        const last = Math.min(watts.length - 1, Math.floor((ended - from) / bin));
        for (let i = Math.max(0, Math.floor((began - from) / bin)); i <= last; i++) {
          const [left, right] = [Math.max(began, from + i * bin), Math.min(ended, from + (i + 1) * bin)];
          if (!number(watts[i]) || right <= left) continue;
          area.x.push(left, left, right, right, null);
          area.y.push(0, watts[i], watts[i], 0, null);
        }
      }
      filled(band.x, band.y, color, 0.13);
      filled(area.x, area.y, color, 0.55);
    }
    const rounds = new Map();
    for (const [began, , round] of spans) {
      if (round > 0) rounds.set(round, Math.min(began, rounds.get(round) ?? Infinity));
    }
    const every = Math.ceil(rounds.size / Math.max(2, Math.floor(node.clientWidth / 44)));
    const marked = [...rounds].filter(([round]) => (round - 1) % every === 0);
    traces.push({
      type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: css("soft"), width: 1 }, opacity: 0.55,
      x: marked.flatMap(([, at]) => [at, at, null]), y: marked.flatMap(() => [0, top, null]),
    });
    traces.push({
      type: "scatter", mode: "text", hoverinfo: "skip", textposition: "bottom right", cliponaxis: false,
      x: marked.map(([, at]) => at), y: marked.map(() => top), text: marked.map(([round]) => "\u00a0" + plain(round)),
      textfont: { size: 11, color: css("soft") },
    });
    if (number(device.idle_w)) {
      const dashed = { color: css("ink"), width: 1.25, dash: "dash" };
      const words = `<b>${plain(device.name)}</b><br>at rest ${exact(device.idle_w)} W`;
      traces.push({
        type: "scatter", mode: "lines", x: [0, end], y: [device.idle_w, device.idle_w], line: dashed, opacity: 0.7,
        hoverinfo: "skip", name: words,
      });
    }
    const steps = { x: [], y: [] };
    watts.forEach((value, i) => {
      steps.x.push(from + i * bin, from + (i + 1) * bin);
      steps.y.push(number(value) ? value : null, number(value) ? value : null);
    });
    traces.push({
      type: "scatter", mode: "lines", connectgaps: false, hoverinfo: "skip", ...steps,
      line: { color: css("ink"), width: 1.5, shape: "linear" },
    });
    const middle = watts.map((_, i) => from + (i + 0.5) * bin);
    const doing = (at) => spans.find((span) => span[0] <= at && at < span[1]);
    const text = watts.map((value, i) => {
      const span = doing(middle[i]);
      const place = span ? (span[2] > 0 ? `round ${plain(span[2])}, ` : "before round 1, ") + plain(span[3]) : "no phase";
      const scope = plain(device.scope || "scope not known") + (replayed(device) ? ", replay" : "");
      const power = number(value) ? `${exact(value)} W, ${scope}` : "not measured";
      return `<b>${plain(device.name)}</b><br>${power}<br>${exact(Number(middle[i].toPrecision(6)))} s, ${place}`;
    });
    traces.push({
      type: "scatter", mode: "markers", x: middle, y: watts.map((value) => (number(value) ? value : 0)), text,
      hoverinfo: "text", marker: { size: 8, color: css("ink"), opacity: 0 },
    });
    const seconds = (value) => (value === 0 ? "0" : human(value, [[unitOf(end, TIME)[0], unitOf(end, TIME)[1], 0]]));
    const size = unitOf(end, TIME)[0];
    const foot = linearTicks(0, end, size, seconds, node.clientWidth < 480 ? 4 : 8);
    const watt = (value) => (value === 0 ? "0" : short(value) + "\u00a0W");
    const xaxis = line({ ...foot, showgrid: false, showline: true, ticks: "outside" });
    const yaxis = line(linearTicks(0, top, 1, watt, 4));
    show(node, traces, base({ hovermode: "x", hoverdistance: -1, xaxis, yaxis }));
  }

  const widths = new WeakMap();
  const draw = (node) => {
    if (!node.clientWidth) return; // inside details that are closed
    widths.set(node, node.clientWidth);
    ({ trace: drawTrace, seconds: drawBars, joules: drawBars }[node.dataset.kind] || drawCurve)(node);
  };
  const drawAll = () => document.querySelectorAll(".plot").forEach(draw);

  for (const button of document.querySelectorAll(".filters button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!on));
      if (on) hidden.add(button.dataset.facet);
      else hidden.delete(button.dataset.facet);
      document.querySelectorAll(".plot.curve").forEach(draw);
    });
  }
  // Also tells of the first width that a figure gets when its details are opened. Ticks depend on the width.
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.clientWidth && widths.get(target) !== target.clientWidth) draw(target);
    }
  });
  document.querySelectorAll(".plot").forEach((node) => observer.observe(node));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
