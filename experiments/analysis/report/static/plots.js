// Draws panels with plotly when they come into view, in the page's own colours.
"use strict";

const plots = {
  // The light page's colours and what stands for them where it is dark.
  dark: { "#0072B2": "#56B4E9", "#D55E00": "#F0903A", "#009E73": "#3CC79C", "#767676": "#A8A8A8" },
  library: null,
  drawn: new Map(),

  // plotly's file is large: it is loaded once, when the first plot is wanted.
  ready() {
    if (window.Plotly) return Promise.resolve();
    this.library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = "assets/plotly.min.js";
      script.onload = resolve;
      script.onerror = () => reject(new Error("assets/plotly.min.js is missing"));
      document.head.append(script);
    });
    return this.library;
  },

  recoloured(value) {
    if (typeof value === "string") return plots.dark[value] ?? value;
    if (Array.isArray(value)) return value;
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plots.recoloured(v)]));
    }
    return value;
  },

  themed(panel, place) {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--text").trim();
    const grid = style.getPropertyValue("--line").trim();
    const paper = style.getPropertyValue("--paper").trim();
    const axis = (own = {}) => ({
      gridcolor: grid, linecolor: grid, zerolinecolor: own.zeroline ? text : grid,
      automargin: true, ...own, title: { standoff: 8, ...own.title },
    });
    const traces = report.isDark() ? panel.traces.map(plots.recoloured) : panel.traces;
    const layout = {
      ...panel.layout,
      xaxis: axis(panel.layout.xaxis), yaxis: axis(panel.layout.yaxis),
      font: { family: "system-ui, sans-serif", size: 12, color: text },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: paper, bordercolor: grid, font: { color: text } },
      margin: { l: 50, r: 12, t: 10, b: 40 }, showlegend: false, dragmode: "zoom",
      hovermode: "closest", ...panel.extra,
    };
    // Without a pointer that hovers the bar would stay, over the data.
    const bar = place.clientWidth > 420 && matchMedia("(hover: hover)").matches ? "hover" : false;
    const config = { responsive: true, displaylogo: false, displayModeBar: bar,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    return [traces, layout, config];
  },

  async draw(place, panel) {
    plots.drawn.set(place, panel);
    await plots.ready();
    await Plotly.react(place, ...plots.themed(panel, place));
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Plot: ${panel.title}; its values are listed below it`);
    place.dataset.drawn = "yes";
  },

  redrawAll() {
    for (const [place, panel] of plots.drawn) if (place.isConnected) plots.draw(place, panel);
  },

  // The values behind a panel as a table, for readers without a pointer.
  valuesTable(panel) {
    const rows = panel.traces.filter((t) => t.mode !== "text").flatMap((trace) => (trace.z
      ? trace.z.flatMap((line, i) => line.map((z, j) =>
        [`decay ${trace.y[i]}`, `lr ${trace.x[j]}`, `${z ?? "none"}${trace.customdata?.[i]?.[j] ?? ""}`]))
      : trace.x.map((x, i) => [trace.name, x, `${trace.y[i]}${trace.customdata?.[i] ?? ""}`])));
    const text = (value) => report.element("td", {}, plots.unescaped(value));
    const lines = rows.map((row) => report.element("tr", {}, ...row.map(text)));
    const body = report.element("tbody", {}, ...lines);
    return report.element("div", { class: "scroll", tabindex: "0", role: "region",
      "aria-label": `Values: ${panel.title}` }, report.element("table", {}, body));
  },

  // Labels are escaped for plotly; as plain text they are shown as they were.
  unescaped(value) {
    return String(value).replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  },
};

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plots.redrawAll);
