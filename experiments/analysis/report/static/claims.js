// Filters the claims by verdict, topic and words. Buttons of one group widen, groups narrow.
"use strict";

{
  const rows = [...document.querySelectorAll("#claims tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const buttons = [...document.querySelectorAll("#filters button")];
  const search = document.getElementById("search");
  const nothing = document.getElementById("nothing");

  const isPressed = (button) => button.getAttribute("aria-pressed") === "true";

  function chosen() {
    const groups = new Map();
    for (const { dataset } of buttons.filter(isPressed)) {
      if (!groups.has(dataset.column)) groups.set(dataset.column, new Set());
      groups.get(dataset.column).add(dataset.value);
    }
    return groups;
  }

  function update() {
    const groups = [...chosen()];
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const fits = groups.every(([column, values]) => values.has(row.getAttribute(`data-${column}`)))
        && words.every((word) => texts[i].includes(word));
      row.hidden = !fits;
      shown += fits;
    });
    nothing.hidden = shown > 0;
    const all = shown === rows.length;
    document.getElementById("count").textContent =
      all ? `${rows.length} claims` : `${shown} of ${rows.length} claims`;
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(!isPressed(button)));
      update();
    });
  }
  search.addEventListener("input", update);
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("reset").addEventListener("click", () => {
    buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
    search.value = "";
    update();
    search.focus();
  });
  update(); // a browser may bring back a search text
}
