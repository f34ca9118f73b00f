// The figures page: plots are drawn when they come near the view; drawn figures open large.
"use strict";

{
  const panels = JSON.parse(document.getElementById("panels").textContent);

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      plots.draw(target, panels[target.dataset.panel]);
    }
  }, { rootMargin: "300px" });
  document.querySelectorAll(".plot[data-panel]").forEach((place) => watcher.observe(place));
  addEventListener("beforeprint", () => {
    document.querySelectorAll(".plot[data-panel]:not([data-drawn])")
      .forEach((place) => plots.draw(place, panels[place.dataset.panel]));
  });

  for (const details of document.querySelectorAll("details.values")) {
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) {
        details.append(plots.valuesTable(panels[details.dataset.panel]));
      }
    });
  }

  const dialog = document.getElementById("zoom");
  const image = dialog.querySelector("img");
  for (const link of document.querySelectorAll("a.picture")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // as any other link
      event.preventDefault();
      image.src = link.getAttribute("href");
      image.alt = link.querySelector("img").alt;
      document.getElementById("zoom-link").setAttribute("href", link.getAttribute("href"));
      image.classList.remove("large");
      dialog.showModal();
    });
  }
  image.addEventListener("click", () => image.classList.toggle("large"));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
