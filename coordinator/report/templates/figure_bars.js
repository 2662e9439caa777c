  // Stacked bars: a device's seconds or joules by phase.
  function drawBars(node) {
    const run = runs[Number(node.dataset.run)];
    const kind = node.dataset.kind;
    const units = kind === "seconds" ? TIME : ENERGY;
    const devices = node.dataset.devices.split(",").map((place) => run.devices[Number(place)]);
    const found = [...new Set(devices.flatMap((device) => Object.keys(device[kind] || {})))];
    const phases = PHASES.concat(found.filter((phase) => !PHASES.includes(phase)));
    // What is below zero, as of a sensor at rest, goes to the other side.
    const sums = (side) => devices.map((device) =>
      Object.values(device[kind] || {}).filter((value) => number(value) && value * side > 0).reduce((a, b) => a + b, 0));
    const low = Math.min(...sums(-1)) * 1.02;
    const high = (Number(node.dataset.largest) || Math.max(...sums(1)) || -low) * 1.02;
    if (!(high > 0)) return say(node, "Nothing has been recorded yet.");
    const rows = devices.map((_, index) => index);
    const unit = (device) => (kind === "seconds" ? " s" : " J" + about(device.scope, replayed(device)));
    const text = (device, phase, value) =>
      `<b>${plain(device.name)}</b><br>${plain(phase)} ${exact(value)}${unit(device)}`;
    const traces = phases.map((phase) => {
      const x = devices.map((device) => (number((device[kind] || {})[phase]) ? device[kind][phase] : null));
      return {
        type: "bar", orientation: "h", y: rows, x, hoverinfo: "text", width: 0.62, textposition: "none",
        text: x.map((value, index) => (value === null ? "" : text(devices[index], phase, value))),
        marker: { color: css(PHASES.includes(phase) ? phase : "other"), line: { color: css("card"), width: 1 } },
      };
    });
    const names = devices.map((device) => String(device.name ?? "device"));
    const ticktext = names.map((name) => plain(name.length > 16 ? name.slice(0, 15) + "…" : name) + "\u00a0");
    node.style.height = 44 * devices.length + 56 + "px";
    const xaxis = line({ ...unitTicks(high, units, node.clientWidth < 480 ? 4 : 7, low), ticks: "" });
    const yaxis = line({ tickvals: rows, ticktext, range: [devices.length - 0.5, -0.5], showgrid: false });
    show(node, traces, base({ barmode: "relative", xaxis, yaxis }));
  }
