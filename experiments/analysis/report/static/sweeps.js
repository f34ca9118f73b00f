// The sweep explorer: a study's heatmaps; a chosen cell's curves, seeds, settings and commands.
"use strict";

{
  const { element } = report;
  const studyPlace = document.getElementById("study");
  const cellPlace = document.getElementById("cell");
  const runsPlace = document.getElementById("runs");
  const chips = [...document.querySelectorAll("#studies button")];
  // Cividis, seven stops: dark to light, safe for colour-blind eyes.
  const SCALE = [[0, 34, 78], [42, 63, 109], [87, 92, 109], [125, 124, 120], [165, 156, 116],
    [209, 193, 96], [254, 232, 56]];
  let study = null;
  let slug = "";

  function colour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
    const [low, high] = [SCALE[Math.floor(at)], SCALE[Math.ceil(at)]];
    return low.map((v, i) => Math.round(v + (high[i] - v) * (at - Math.floor(at))));
  }

  const short = (value) => (value === null ? "none" : Number(value.toPrecision(3)).toString());
  const withError = (value, error) =>
    (value === null ? "none"
      : `${value.toFixed(study.digits)}${error === null ? "" : ` ± ${error.toFixed(study.digits)}`}`);

  const place = (view, cell) =>
    `${view.title}, lr ${short(cell.lr)}, decay ${short(cell.decay)}`;

  function values(cell) {
    const ended = `n = ${cell.n} of ${cell.runs}${cell.diverged ? `, ${cell.diverged} diverged` : ""}`
      + `${cell.failed ? `, ${cell.failed} not finished` : ""}`;
    return `${study.tune} ${withError(cell.val, cell.valError)} ${study.unit}, `
      + `${study.report} ${withError(cell.test, cell.testError)} ${study.unit}, ${ended}`;
  }

  const describe = (view, cell) => `${place(view, cell)}: ${values(cell)}`;

  function cellButton(view, cell, range) {
    const broken = cell.diverged ? "div." : "failed";
    const partly = cell.val !== null && cell.n < cell.runs ? "*" : "";
    const text = cell.val === null ? broken : cell.val.toFixed(Math.max(0, study.digits - 1)) + partly;
    const button = element("button", { type: "button", "data-cell": cell.id,
      "aria-label": describe(view, cell), class: cell.id === view.best ? "best" : null }, text);
    if (cell.val !== null) {
      const share = (cell.val - range.low) / (range.high - range.low || 1);
      const rgb = colour(study.higherIsBetter ? share : 1 - share);
      button.style.background = `rgb(${rgb})`;
      const light = rgb[0] * 0.299 + rgb[1] * 0.587 + rgb[2] * 0.114 > 125;
      button.style.color = light ? "#000" : "#fff";
    }
    button.addEventListener("click", () => choose(cell.id, true));
    const show = () => showTip(button, describe(view, cell));
    button.addEventListener("pointerenter", show);
    button.addEventListener("focus", show);
    button.addEventListener("pointerleave", hideTip);
    button.addEventListener("blur", hideTip);
    return button;
  }

  const tip = element("div", { id: "tip", "aria-hidden": "true", hidden: "" });
  document.body.append(tip);

  function showTip(anchor, text) {
    tip.textContent = text;
    tip.hidden = false;
    const box = anchor.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left) + scrollX}px`;
    tip.style.top = `${box.top + scrollY - tip.offsetHeight - 6}px`;
  }

  function hideTip() { tip.hidden = true; }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

  function heatmap(view, range) {
    const find = new Map(view.cells.map((cell) => [`${cell.lr}|${cell.decay}`, cell]));
    const rows = view.decays.map((decay) => element("tr", {},
      element("th", { scope: "row" }, short(decay)),
      ...view.lrs.map((lr) => {
        const cell = find.get(`${lr}|${decay}`);
        return element("td", {}, cell ? cellButton(view, cell, range) : "–");
      })));
    const foot = element("tr", {}, element("th", { scope: "col" }, "decay \\ lr"),
      ...view.lrs.map((lr) => element("th", { scope: "col" }, short(lr))));
    const best = view.cells.find((cell) => cell.id === view.best);
    const note = best
      ? `Best: lr ${short(best.lr)}, decay ${short(best.decay)}${view.onEdge ? ", on the edge of its grid: not tuned" : ""}.`
      : view.elsewhere ? "The best cell of this choice lies in the grid of other betas."
        : "No cell has finished with every seed.";
    return element("div", { class: "heatmap" }, element("h3", {}, view.title),
      element("div", { class: "scroll" }, element("table", { class: "cells" },
        element("thead", {}, foot), element("tbody", {}, ...rows))),
      element("p", { class: view.onEdge ? "note warn" : "note" }, note));
  }

  async function open(name, cell) {
    chips.forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.study === name)));
    slug = name;
    const content = await report.load(`${name}/study`);
    if (slug !== name) return; // another study was chosen meanwhile
    study = content;
    const range = study.scale;
    const scale = range ? scaleBar(range) : null;
    studyPlace.replaceChildren(element("p", { class: "caption" }, study.note), scale ?? "",
      element("div", { class: "heatmaps" }, ...study.views.map((view) => heatmap(view, range))));
    new RunsTable(runsPlace, study.runs, (id) => choose(id, true));
    const known = study.views.flatMap((view) => view.cells).map((c) => c.id);
    const best = study.views.map((view) => view.best).find((id) => id !== null);
    const first = known.includes(cell) ? cell : best ?? known[0];
    if (first !== undefined) await choose(first, false);
  }

  // Arrow keys go from cell to cell of a heatmap.
  studyPlace.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const here = event.target.closest("td");
    if (!step || !here) return;
    event.preventDefault();
    const rows = here.closest("tbody").rows;
    const row = rows[here.parentElement.rowIndex - 1 + step[0]];
    row?.cells[here.cellIndex + step[1]]?.querySelector("button")?.focus();
  });

  function scaleBar(range) {
    const stops = SCALE.map((rgb) => `rgb(${rgb})`);
    if (!study.higherIsBetter) stops.reverse();
    const bar = element("span", { class: "bar" });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    const less = range.isCut && study.higherIsBetter ? " or less" : "";
    const more = range.isCut && !study.higherIsBetter ? " or more" : "";
    return element("p", { class: "scale" }, `${range.low.toFixed(Math.max(0, study.digits - 1))}${less} `, bar,
      ` ${range.high.toFixed(Math.max(0, study.digits - 1))}${more} ${study.unit}; *: some seeds diverged or did not finish`);
  }

  async function choose(id, byReader) {
    const mine = slug;
    document.querySelectorAll("button[data-cell]").forEach((button) =>
      button.setAttribute("aria-pressed", String(Number(button.dataset.cell) === id)));
    const view = study.views.find((v) => v.cells.some((c) => c.id === id));
    const cell = view.cells.find((c) => c.id === id);
    const details = await report.load(`${mine}/cell${id}`);
    if (mine !== slug) return;
    showCell(view, cell, details);
    if (byReader) {
      history.replaceState(null, "", `#${mine}/${id}`);
      document.getElementById("status").textContent = describe(view, cell);
      const { top } = cellPlace.getBoundingClientRect();
      if (top < 0 || top > 0.7 * innerHeight) cellPlace.scrollIntoView();
    }
  }

  function showCell(view, cell, details) {
    const seeds = details.seeds.map((s) => element("tr", {}, ...[
      s.seed, s.state, s.val?.toFixed(study.digits), s.test?.toFixed(study.digits), s.seconds?.toFixed(1), s.run_id,
    ].map((v) => element("td", {}, String(v ?? "")))));
    const heads = ["seed", "state", `${study.tune}, ${study.unit}`, `${study.report}, ${study.unit}`, "seconds", "run"];
    const settings = Object.entries(details.settings).flatMap(([key, value]) =>
      [element("dt", {}, key.replace("_", " ")), element("dd", {}, value)]);
    const [first, ...others] = details.seeds.map((s) => report.commandBox(s.command));
    cellPlace.replaceChildren(
      element("h2", {}, place(view, cell)),
      element("p", { class: "said" }, `${values(cell)} (± standard error over seeds)`),
      curves(details.seeds),
      element("h3", {}, "Run it again"), first,
      details.seeds[0].exact ? "" : element("p", { class: "note" },
        "Built from the columns of the table; whatever they leave out is as on the pages of conf/."),
      others.length ? element("details", {},
        element("summary", {}, `The other ${others.length} seeds`), ...others) : "",
      element("h3", {}, "Seeds"),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Seeds" },
        element("table", {}, element("thead", {}, element("tr", {},
          ...heads.map((h) => element("th", { scope: "col" }, h)))),
        element("tbody", {}, ...seeds))),
      element("h3", {}, "Configuration"), element("dl", { class: "settings" }, ...settings),
      details.config ? element("details", {}, element("summary", {}, "config.yaml of the first seed"),
        element("pre", { tabindex: "0" }, details.config)) : "");
  }

  function curves(seeds) {
    const names = [...new Set(seeds.flatMap((s) => s.curves.map((c) => c.name)))];
    if (!names.length) return element("p", { class: "missing" }, "No curves in this study's tables.");
    const drawing = element("div", { class: "plot", style: "height:280px" });
    const buttons = names.map((name) => element("button", { type: "button" }, name));
    const pick = (name) => {
      buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.textContent === name)));
      plots.draw(drawing, curvePanel(name, seeds));
    };
    buttons.forEach((b) => b.addEventListener("click", () => pick(b.textContent)));
    const start = [study.curve, "val loss", "train loss"].find((n) => names.includes(n)) ?? names[0];
    requestAnimationFrame(() => pick(start)); // once the place is in the page and has a width
    return element("div", {}, element("div", { class: "chips", role: "group",
      "aria-label": "Curve" }, element("b", {}, "Curves"), ...buttons), drawing);
  }

  function curvePanel(name, seeds) {
    const colours = ["#0072B2", "#D55E00", "#009E73", "#767676"];
    const dashes = ["solid", "dash", "dot", "dashdot"];
    const traces = seeds.flatMap((s, i) => s.curves.filter((c) => c.name === name).map((c) => ({
      type: "scatter", mode: c.x.length < 40 ? "lines+markers" : "lines", name: `seed ${s.seed}`,
      x: c.x, y: c.y, marker: { size: 5 },
      line: { width: 1.5, color: colours[i % 4], dash: dashes[Math.floor(i / 4) % 4] },
      hovertemplate: "step %{x}: <b>%{y}</b><extra>%{fullData.name}</extra>",
    })));
    return { title: name, traces, extra: { showlegend: true, legend: { orientation: "h", y: 1.15 } },
      layout: { xaxis: { title: { text: "optimizer step" } }, yaxis: { title: { text: name } } } };
  }

  function fromAddress() {
    const [name, id] = location.hash.slice(1).split("/");
    const chip = chips.find((c) => c.dataset.study === name) ?? chips[0];
    if (chip) open(chip.dataset.study, Number.parseInt(id, 10));
  }

  chips.forEach((chip) => chip.addEventListener("click", () => {
    history.replaceState(null, "", `#${chip.dataset.study}`);
    cellPlace.replaceChildren();
    open(chip.dataset.study, NaN);
  }));
  addEventListener("hashchange", fromAddress);
  fromAddress();
}
