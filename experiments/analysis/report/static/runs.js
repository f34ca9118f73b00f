// A table of runs that sorts by a column and filters by words and state; rows come in portions.
"use strict";

class RunsTable {
  static PORTION = 100;

  constructor(place, runs, onPick) {
    this.place = place;
    this.runs = runs;
    this.onPick = onPick;
    this.sorting = { column: null, down: false };
    this.limit = RunsTable.PORTION;
    const length = runs.cell.length;
    this.texts = Array.from({ length }, (_, i) =>
      runs.columns.map((c) => String(runs.values[c][i] ?? "")).join(" ").toLowerCase());
    this.order = [...this.texts.keys()];
    this.build();
    this.update();
  }

  build() {
    const { element } = report;
    this.search = element("input", { type: "search", placeholder: "words, e.g. lion finished" });
    this.search.addEventListener("input", () => { this.limit = RunsTable.PORTION; this.update(); });
    this.count = element("p", { class: "count", "aria-live": "polite" });
    this.heads = new Map(this.runs.columns.map((column) => {
      const button = element("button", { type: "button" }, column.replace("_", " "));
      button.addEventListener("click", () => this.sortBy(column));
      return [column, element("th", { scope: "col" }, button)];
    }));
    this.body = element("tbody");
    const table = element("table", {},
      element("thead", {}, element("tr", {}, ...this.heads.values())), this.body);
    this.more = element("button", { type: "button", class: "more" }, "Show more");
    this.more.addEventListener("click", () => { this.limit += 5 * RunsTable.PORTION; this.update(); });
    this.place.replaceChildren(element("h2", {}, "Runs"),
      element("label", {}, "Filter ", this.search), this.count,
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, table),
      this.more);
  }

  sortBy(column) {
    const { sorting } = this;
    sorting.down = sorting.column === column && !sorting.down;
    sorting.column = column;
    const values = this.runs.values[column];
    const sign = sorting.down ? -1 : 1;
    this.order.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null);
      return sign * (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : 0);
    });
    this.heads.forEach((head, name) => {
      if (name === column) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.update();
  }

  update() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = this.order.filter((i) => words.every((word) => this.texts[i].includes(word)));
    const total = this.order.length;
    this.count.textContent = kept.length === total ? `${total} runs` : `${kept.length} of ${total} runs`;
    this.body.replaceChildren(...kept.slice(0, this.limit).map((i) => this.row(i)));
    this.more.hidden = kept.length <= this.limit;
  }

  row(i) {
    const { element } = report;
    return element("tr", {}, ...this.runs.columns.map((column) => {
      const value = this.runs.values[column][i];
      if (column !== "run_id") return element("td", {}, RunsTable.shown(value));
      const button = element("button", { type: "button", class: "link" }, String(value));
      button.addEventListener("click", () => this.onPick(this.runs.cell[i]));
      return element("td", {}, button);
    }));
  }

  static shown(value) {
    if (value === null) return "";
    return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
  }
}
