  // A device's power over time.
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
    const least = (values) => values.filter(number).reduce((a, b) => Math.min(a, b), 0);
    const top = Math.max(most(alike.map((other) => most(other.trace.power_w || []))), device.idle_w || 0) * 1.18 || 1;
    // A sensor at rest may read below zero.
    const bottom = Math.min(least(alike.map((other) => least(other.trace.power_w || []))), device.idle_w || 0) * 1.18;
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
        band.y.push(bottom, top, top, bottom, null);
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
      x: marked.flatMap(([, at]) => [at, at, null]), y: marked.flatMap(() => [bottom, top, null]),
    });
    traces.push({
      type: "scatter", mode: "text", hoverinfo: "skip", textposition: "bottom right", cliponaxis: false,
      x: marked.map(([, at]) => at), y: marked.map(() => top), text: marked.map(([round]) => "\u00a0" + plain(round)),
      textfont: { size: 11, color: css("soft") },
    });
    if (number(device.idle_w)) {
      const dashed = { color: css("ink"), width: 1.25, dash: "dash" };
      const text = `<b>${plain(device.name)}</b><br>at rest ${exact(device.idle_w)} W`;
      traces.push({
        type: "scatter", mode: "lines", x: [0, end], y: [device.idle_w, device.idle_w], line: dashed, opacity: 0.7,
        hoverinfo: "skip", name: text,
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
    const yaxis = line(linearTicks(bottom, top, 1, watt, 4));
    show(node, traces, base({ hovermode: "x", hoverdistance: -1, xaxis, yaxis }));
  }
