// What the instruments share: elements, scales and axes, controls, state in the address, words said
// aloud, files to save. An instrument registers itself with `explorer.instrument(name, mount)`.
"use strict";
((explorer) => {
  const SVG = "http://www.w3.org/2000/svg";
  const STILL = matchMedia("(prefers-reduced-motion: reduce)");
  const PAUSE = 350; // milliseconds between two changes of the address: browsers allow about 100 in 30 s
  let ids = 0;

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  /** An HTML element: h("p", { class: "words", onclick }, "text", child). */
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

  /** An SVG element, alike. */
  const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  /** A number in few digits, with a true minus. */
  function digits(value, places = 2) {
    if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(places - 1)
      : String(Number(value.toPrecision(places)));
    return text.replaceAll("-", "−").replace("e+", "e");
  }

  const percent = (share) => (share > 0 && share < 0.001 ? "under 0.1%"
    : `${digits(100 * share, share < 0.0995 ? 2 : 3)}%`);

  // ---------------------------------------------------------------------------------------------
  // Pictures

  /** Round values between two ends, about `count` of them. */
  function ticks(low, high, count = 5) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(12)));
  }

  /**
   * A plot in pixels: axes with words, and layers to draw on.
   *
   * options: width, height; x and y, each {range: [low, high], label, ticks: values or [value, text]
   *   pairs, format}; `alt`, what is to be seen; class. `layer(name)` is a clipped group, below the axes'
   *   words, in the order of the first calls; `x(value)`, `y(value)` are pixels and `at(event)` the values
   *   under a pointer.
   */
  function plot({ width, height, x, y, alt = "", left = 52, bottom = 42, top = 10, right = 10, ...more }) {
    const id = `explorer-clip-${++ids}`;
    const across = (v) => left + ((v - x.range[0]) / (x.range[1] - x.range[0])) * (width - left - right);
    const up = (v) => height - bottom - ((v - y.range[0]) / (y.range[1] - y.range[0])) * (height - top - bottom);
    const drawn = s("g", { "clip-path": `url(#${id})` });
    const axes = s("g", { class: "fx-axes", "aria-hidden": "true" });
    const pairs = (axis, size) => (axis.ticks ?? ticks(...axis.range, Math.max(2, size / 70)))
      .map((one) => (Array.isArray(one) ? one : [one, (axis.format ?? digits)(one)]));
    const base = height - bottom;
    axes.append(s("path", { d: `M${left} ${top}V${base}H${width - right}` }));
    for (const [value, text] of pairs(x, width - left - right)) {
      const at = across(value);
      axes.append(s("path", { d: `M${at} ${base}v5` }),
        s("text", { x: at, y: base + 18, "text-anchor": "middle" }, text));
    }
    for (const [value, text] of pairs(y, height - top - bottom)) {
      const at = up(value);
      axes.append(s("path", { d: `M${left} ${at}h-5` }),
        s("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, text));
    }
    axes.append(
      s("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle", class: "fx-word" }, x.label),
      s("text", { transform: `translate(13 ${(top + base) / 2}) rotate(-90)`, "text-anchor": "middle",
        class: "fx-word" }, y.label ?? ""),
    );
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": alt, ...more },
      s("clipPath", { id }, s("rect", { x: left, y: top, width: Math.max(0, width - left - right),
        height: Math.max(0, base - top) })), drawn, axes);
    const layers = new Map();
    return {
      svg, x: across, y: up, width, height,
      layer(name) {
        if (!layers.has(name)) layers.set(name, drawn.appendChild(s("g", { class: `fx-${name}` })));
        return layers.get(name);
      },
      say: (words) => svg.setAttribute("aria-label", words),
      at(event) {
        const box = svg.getBoundingClientRect();
        const px = ((event.clientX - box.left) / box.width) * width;
        const py = ((event.clientY - box.top) / box.height) * height;
        const between = (share, [low, high]) => low + Math.min(1, Math.max(0, share)) * (high - low);
        return [between((px - left) / (width - left - right), x.range),
          between((base - py) / (base - top), y.range)];
      },
    };
  }

  /** Path data through points in the values of a plot; points that are no numbers break the line. */
  function line(at, points) {
    let pen = "M";
    let d = "";
    for (const [x, y] of points) {
      if (!(Number.isFinite(x) && Number.isFinite(y))) pen = "M";
      else {
        d += `${pen}${at.x(x).toFixed(1)} ${at.y(y).toFixed(1)}`;
        pen = "L";
      }
    }
    return d;
  }

  // ---------------------------------------------------------------------------------------------
  // Controls. Each has `element`, `value` to read, and `set(value)`, which does not call `oninput`.

  /** A slider; `to` and `from` turn its position into the value and back (a log scale, say). */
  function slider({ label, min, max, step, value, format = digits, oninput, to = (v) => v, from = (v) => v, hint }) {
    const id = `explorer-slider-${++ids}`;
    const shown = h("span", { class: "fx-value", "aria-hidden": "true" });
    const input = h("input", { id, type: "range", min: from(min), max: from(max), step, value: from(value) });
    const name = h("label", { for: id }, label);
    const show = () => {
      shown.textContent = format(to(input.valueAsNumber));
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    input.addEventListener("input", () => {
      show();
      oninput(to(input.valueAsNumber));
    });
    show();
    const element = h("div", { class: "fx-control fx-slider" }, h("span", { class: "fx-label" }, name, " ", shown), input,
      hint ? h("span", { class: "fx-hint" }, hint) : null);
    return {
      element, input,
      get value() { return to(input.valueAsNumber); },
      set(now) {
        input.value = from(now);
        show();
      },
      rename(words) { name.textContent = words; },
    };
  }

  /** A choice among [value, text] pairs. */
  function choice({ label, options, value, oninput }) {
    const input = h("select", { onchange: () => oninput(input.value) },
      options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
    return {
      element: h("label", { class: "fx-control" }, h("span", { class: "fx-label" }, label), input),
      input,
      get value() { return input.value; },
      set(now) { input.value = now; },
    };
  }

  const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);

  /** A place whose words are read aloud when they have not changed for a moment. */
  function announcer() {
    const element = h("p", { class: "fx-aloud", role: "status" });
    let timer = 0;
    return {
      element,
      say(words) {
        clearTimeout(timer);
        timer = setTimeout(() => {
          if (element.textContent !== words) element.textContent = words;
        }, 500);
      },
    };
  }

  // ---------------------------------------------------------------------------------------------
  // State: an object of texts and numbers, which is also what stands in the address behind "#"

  /** State written as `name=value&name=value`; what is unknown or no such number is left at its default. */
  function readState(text, defaults, checks = {}) {
    const state = { ...defaults };
    for (const [name, value] of new URLSearchParams(text)) {
      if (!(name in defaults)) continue;
      const read = typeof defaults[name] === "number" ? (value.trim() === "" ? NaN : Number(value)) : value;
      if (Number.isNaN(read) || (checks[name] && !checks[name](read))) continue;
      state[name] = read;
    }
    return state;
  }

  /** The same backwards, without what is at its default. */
  function writeState(state, defaults) {
    const given = Object.entries(state).filter(([name, value]) => name in defaults && value !== defaults[name]);
    return new URLSearchParams(given.map(([name, value]) => [name,
      typeof value === "number" ? String(Number(value.toPrecision(4))) : value])).toString();
  }

  // ---------------------------------------------------------------------------------------------
  // Files

  function save(blob, name) {
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1e4);
  }

  const saveText = (text, name, type = "text/csv") => save(new Blob([text], { type: `${type};charset=utf-8` }), name);

  /** Save a plot as SVG that looks the same elsewhere: its styles are written into its elements. */
  function savePicture(svg, name) {
    const copy = svg.cloneNode(true);
    const looks = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "font-size",
      "font-family", "font-weight", "text-anchor"];
    const [own, copied] = [svg, copy].map((root) => root.querySelectorAll("*"));
    own.forEach((element, k) => {
      const style = getComputedStyle(element);
      copied[k].setAttribute("style", looks.map((one) => `${one}:${style.getPropertyValue(one)}`).join(";"));
    });
    copy.setAttribute("xmlns", SVG);
    const paper = getComputedStyle(document.body).backgroundColor;
    copy.prepend(s("rect", { width: "100%", height: "100%", fill: paper }));
    save(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }), name);
  }

  /** Copy text; says whether it could, and selects it where it stands if it could not. */
  async function copy(text, element) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      if (element) getSelection().selectAllChildren(element);
      return element ? document.execCommand("copy") : false;
    }
  }

  // ---------------------------------------------------------------------------------------------
  // Instruments

  const instruments = new Map();

  /** Register `mount(place)`: it fills place.root and returns {set(text of the state)}. */
  const instrument = (name, mount) => instruments.set(name, mount);

  /**
   * Open an instrument in an element.
   *
   * Its state is that of the address on a page of its own, elsewhere the element's data-state. `mount` is
   * given {root, width(), state (text), changed(text), onresize(call)}.
   */
  function open(element) {
    const own = element.hasAttribute("data-own");
    const root = h("div", { class: "fx", role: "group", "aria-label": element.dataset.title });
    const link = element.querySelector("a");
    const calls = [];
    let [written, later] = [-Infinity, 0];
    const place = {
      root,
      width: () => Math.max(240, root.clientWidth),
      state: own && location.hash.includes("=") ? location.hash.slice(1) : element.dataset.state ?? "",
      onresize: (call) => calls.push(call),
      changed(text) {
        clearTimeout(later);
        const since = performance.now() - written;
        if (since < PAUSE) later = setTimeout(place.changed, PAUSE - since, text);
        else {
          written = performance.now();
          if (own) history.replaceState(null, "", `${location.pathname}${location.search}${text ? `#${text}` : ""}`);
          else if (link) link.hash = text;
        }
      },
    };
    element.querySelector(".explorer-still")?.setAttribute("hidden", "");
    element.append(root);
    const made = instruments.get(element.dataset.instrument)(place);
    let width = root.clientWidth;
    new ResizeObserver(() => {
      if (root.clientWidth === width) return;
      width = root.clientWidth;
      calls.forEach((call) => call());
    }).observe(root);
    if (own) {
      addEventListener("hashchange", () => {
        if (!location.hash.includes("=")) return;
        made.set(location.hash.slice(1));
        root.scrollIntoView({ behavior: STILL.matches ? "instant" : "smooth" }); // the link may stand far below
      });
    }
    element.setAttribute("data-opened", "");
    return made;
  }

  explorer.ui = {
    h, s, digits, percent, ticks, plot, line, slider, choice, button, announcer, readState, writeState, saveText,
    savePicture, copy, open, still: () => STILL.matches,
  };
  explorer.instrument = instrument;
})((globalThis.fieldguideExplorer ??= {}));
