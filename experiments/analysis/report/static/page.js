// What every page needs: copying commands, receiving data files, telling dark from light.
"use strict";

const report = {
  waiting: new Map(),

  // Loads a data file below data/ as a script (a file:// page cannot fetch) and gives its content.
  load(name) {
    if (!this.waiting.has(name)) {
      let resolve, reject;
      const content = new Promise((yes, no) => { resolve = yes; reject = no; });
      this.waiting.set(name, { content, resolve });
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => reject(new Error(`${script.src} is missing`));
      document.head.append(script);
    }
    return this.waiting.get(name).content;
  },

  receive(name, content) {
    this.waiting.get(name)?.resolve(content);
  },

  // An element with attributes and children; strings become text, never markup.
  element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  },

  isDark: () => matchMedia("(prefers-color-scheme: dark)").matches,

  commandBox(text) {
    const box = report.element("div", { class: "command" }, report.element("code", {}, text));
    report.addCopy(box);
    return box;
  },

  addCopy(box) {
    const button = report.element("button", { type: "button" }, "Copy");
    button.addEventListener("click", async () => {
      const code = box.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // file:// pages may not be allowed to: then select it for the reader
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    box.append(button);
  },
};

document.querySelectorAll(".command").forEach(report.addCopy);
