  // The curves of all runs.
  function hoverText(run, point) {
    const lines = ["<b>" + plain(run.label) + "</b>"];
    if (number(point.round)) lines.push("round " + point.round);
    lines.push(plain(run.metric_words) + " " + (number(point.value) ? exact(point.value) : "not measured"));
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
        line: { color: hue(run), width: 2.25, dash: dash(run) },
        marker: { color: hue(run), size: 5.5, symbol: SYMBOLS[(run.seed_index + run.variant) % SYMBOLS.length] },
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
      const text = (reachedAt ? hoverText(run, reachedAt) : "<b>" + plain(run.label) + "</b>") + "<br>target reached";
      traces.push({
        type: "scatter", mode: "markers", x: [x], y: [height], hoverinfo: "text", text: [text],
        marker: { size: 13, symbol: "circle-open", color: hue(run), line: { width: 2.5 } },
      });
    }
    const dashed = { color: css("soft"), width: 1.5, dash: "dash" };
    const shapes = targets.map((y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: dashed }));
    // Several targets: each says whose it is.
    const whose = (y) => among.filter((run) => run.target === y).map((run) => plain(run.label)).join(", ");
    const annotations = targets.length < 2 ? [] : targets.map((y) => ({
      xref: "paper", x: 0, y: yaxis.type === "log" ? Math.log10(y) : y, xanchor: "left", yanchor: "bottom",
      showarrow: false, text: "target of " + whose(y), font: { size: 11, color: css("soft") },
    }));
    const logarithmic = yaxis.type === "log" ? "Logarithmic scale." : "";
    node.parentElement.querySelector(".scale").textContent = logarithmic;
    const text = plain(across.title) + (xaxis.type === "log" ? " (logarithmic)" : "");
    const title = { text, font: { size: 13 }, standoff: 10 };
    const foot = line({ ...xaxis, title, showgrid: false, showline: true, ticks: "outside" });
    show(node, traces, base({ shapes, annotations, xaxis: foot, yaxis: line(yaxis) }));
  }
