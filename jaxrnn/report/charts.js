"use strict";

// Draws every chart of the page from its definition, anew where the reader changes an axis
// or the colours of the system change.
for (const figure of document.querySelectorAll("figure.chart")) {
  const definition = JSON.parse(figure.querySelector("script").textContent);
  const drawing = figure.querySelector(".drawing");
  const logarithmic = figure.querySelector(".logarithmic");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let shown = null;

  const draw = async () => {
    if (shown) {
      for (const param of definition.params ?? []) {
        if ("value" in param) param.value = shown.view.signal(param.name);
      }
      shown.finalize();
    }
    if (logarithmic) setScales(definition, logarithmic.checked ? "log" : "linear");
    shown = await vegaEmbed(drawing, definition, {
      renderer: "svg",
      logLevel: 1, // errors: a choice that leaves a chart empty is none
      theme: dark.matches ? "dark" : undefined,
      config: { background: "transparent" },
      i18n: { CLICK_TO_VIEW_ACTIONS: "Save the chart" },
      actions: { export: true, source: false, compiled: false, editor: false },
    });
  };

  logarithmic?.addEventListener("change", draw);
  dark.addEventListener("change", draw);
  draw();
}

// Gives the vertical axis of a chart, in all of its layers, a kind of scale.
function setScales(definition, kind) {
  const y = definition.encoding?.y;
  if (y) y.scale = { ...y.scale, type: kind };
  for (const layer of definition.layer ?? []) setScales(layer, kind);
}
