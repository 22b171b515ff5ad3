// Opens the instruments of a page: at once on a page of their own, in a chapter when the reader asks.
"use strict";
(() => {
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const CORE = ["random", "posterior", "leapfrog", "nuts", "exact", "contours", "presets", "attempts"];
  const COUNTS = ["counts_numbers", "counts_posterior"];
  const SCRIPTS = {
    path: [...CORE, "ui", "ui_path"],
    pool: [...COUNTS, "pool", "attempts", "ui", "ui_pool"],
    counts: [...COUNTS, "pool", "counts_table", "counts_report", "counts_code", "ui", "ui_counts"],
  };
  const loaded = new Map();

  function load(name) {
    if (!loaded.has(name)) {
      loaded.set(name, new Promise((done, fail) => {
        const script = Object.assign(document.createElement("script"), { src: `${here}${name}.js`, async: false });
        script.addEventListener("load", done);
        script.addEventListener("error", () => fail(new Error(`${name}.js could not be loaded.`)));
        document.head.append(script);
      }));
    }
    return loaded.get(name);
  }

  function style() {
    if (loaded.has("css")) return loaded.get("css");
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: `${here}explorer.css` });
    const ready = new Promise((done) => ["load", "error"].forEach((event) => link.addEventListener(event, done)));
    document.head.append(link);
    loaded.set("css", ready);
    return ready;
  }

  async function open(element) {
    element.setAttribute("aria-busy", "true");
    try {
      await Promise.all([style(), ...SCRIPTS[element.dataset.instrument].map(load)]);
      globalThis.fieldguideExplorer.ui.open(element);
    } catch (error) {
      element.append(Object.assign(document.createElement("p"), {
        className: "explorer-failed", textContent: `The instrument did not open: ${error.message} The picture stays.`,
      }));
      element.querySelector(".explorer-still")?.removeAttribute("hidden");
      throw error;
    } finally {
      element.removeAttribute("aria-busy");
    }
  }

  for (const element of document.querySelectorAll(".explorer")) {
    if (element.hasAttribute("data-own")) open(element);
    else {
      const [door, link] = [element.querySelector("button"), element.querySelector("a")];
      if (element.dataset.state) link.hash = element.dataset.state;
      door.hidden = false;
      door.addEventListener("click", async () => {
        door.disabled = true;
        await open(element);
        door.remove();
        element.querySelector(".fx :is(select, input, button)")?.focus();
      });
    }
  }
})();
