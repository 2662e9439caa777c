  // What the page holds, and how anything is drawn on it.
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const result = read("result");
  const view = read("view");
  const runs = (result.runs || []).map((run, index) => ({ ...run, ...view.runs[index], place: index }));
  const KNOWN = ["ft", "bitfit", "adapter", "lora", "federa"];
  const PHASES = view.phases;
  const DASHES = ["solid", "dot", "dash", "dashdot", "longdash"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star"];
  const hidden = new Set();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const number = (value) => typeof value === "number" && Number.isFinite(value);
  const exact = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 12 });
  const channels = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  // Runs of one method, link and seed share a colour; each further one is nearer to the ink's.
  function hue(run) {
    const [color, ink] = [css(KNOWN.includes(run.method) ? run.method : "other"), css("ink")];
    if (!run.variant || ![color, ink].every((text) => /^#[0-9a-f]{6}$/i.test(text))) return color;
    const share = [0.7, 0.4][(run.variant - 1) % 2];
    const [from, to] = [channels(color), channels(ink)];
    return "rgb(" + from.map((value, i) => Math.round(value + share * (to[i] - value))).join(", ") + ")";
  }
  const dash = (run) => DASHES[(run.link + run.variant) % DASHES.length];
  function tint() {
    for (const path of document.querySelectorAll("[data-run] > path")) path.style.stroke = hue(runs[path.parentNode.dataset.run]);
    for (const dot of document.querySelectorAll(".dot[data-place]")) {
      const run = runs[dot.dataset.place];
      if (run.variant) dot.style.background = hue(run);
    }
  }
  const short = (value) => String(Number(value.toPrecision(4)));
  const shares = (among) => among.length > 0 && among.every((run) => run.percent);
  const score = (percent) => (value) => (percent ? short(100 * value) + "\u00a0%" : short(value));

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
    const paragraph = document.createElement("p");
    paragraph.className = "none";
    paragraph.textContent = text;
    node.replaceChildren(paragraph);
  }

  // What every figure of energy is read with.
  const about = (scope, replay) => ", " + plain(scope || "scope not known") + (replay ? ", replay" : "");
  const replayed = (device) => String(device.power_source ?? "").startsWith("replay of ");

  const shown = () => runs.filter((run) => !run.facets.some((facet) => hidden.has(facet)));
