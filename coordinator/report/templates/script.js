"use strict";
// Draws the figures from the two JSON blocks of the page. Every text that came from the result is escaped: Plotly
// reads a little HTML in its labels.
(() => {
{% include "figure_base.js" %}
{% include "figure_ticks.js" %}
{% include "figure_curves.js" %}
{% include "figure_bars.js" %}
{% include "figure_traces.js" %}

  const widths = new WeakMap();
  const draw = (node) => {
    if (!node.clientWidth) return; // inside details that are closed
    widths.set(node, node.clientWidth);
    ({ trace: drawTrace, seconds: drawBars, joules: drawBars }[node.dataset.kind] || drawCurve)(node);
  };
  const drawAll = () => {
    tint();
    document.querySelectorAll(".plot").forEach(draw);
  };

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
