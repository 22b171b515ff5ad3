// The instrument "counts": a reader's successes and trials, their exact posterior, a program that samples it.
"use strict";
((explorer) => {
  const { counts, ui } = explorer;
  const { h, s } = ui;
  const { digits, percent, rate } = counts.numbers;
  const SCALES = [0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8,
    1, 1.25, 1.5, 2, 2.5, 3, 4, 5]; // as even in their logs as round numbers are
  const FAMILIES = [["exponential", "Exponential"], ["half-normal", "Half-normal"],
    ["half-student-t", "Half-Student-t(3)"], ["half-cauchy", "Half-Cauchy"]];
  const TOOLS = [["pymc", "PyMC"], ["bambi", "Bambi"], ["brms", "brms"]];
  const DEFAULTS = { t: "30/117;7/20;2/2", name: "district", prior: "exponential", scale: 1, code: "pymc" };
  const ROWS = 40; // groups up to which each has a row in the picture, and which take no time
  const SHORT = 60; // groups up to which the address holds them
  let ids = 0;

  const priorOf = ({ prior, scale }) => ({ family: prior, scale, ...(prior === "half-student-t" && { df: 3 }) });
  const nearest = (scale) => SCALES.findLastIndex((one, k) => k === 0 || one * SCALES[k - 1] <= scale * scale);
  const among = (pairs) => (value) => pairs.some(([key]) => key === value);

  /** Groups in few letters: `30/117;b:7/20`, with names where they are not 1, 2, 3 and so on. */
  const packed = ({ group, successes, trials }) => group.map((name, j) =>
    `${name === String(j + 1) ? "" : `${name.replace(/[;%]/g, encodeURIComponent)}:`}${successes[j]}/${trials[j]}`)
    .join(";");

  /** The same as CSV; undefined where it is no table, or a long one. */
  function unpacked(t, name) {
    try {
      const found = t.split(";").map((one) => /^(?:(.*):)?(\d+)\/(\d+)$/s.exec(one));
      const names = found.map(([, own], j) => (own === undefined ? String(j + 1) : decodeURIComponent(own)));
      const column = (k, title) => [title, ...found.map((one) => one[k])];
      const text = counts.countsCsv({ group: [name, ...names], successes: column(2, "successes"),
        trials: column(3, "trials") }).replace(/^.*\n/, "");
      if (counts.readCounts(text).group.length <= SHORT) return text;
    } catch {} // an address that somebody has changed
    return undefined;
  }
  const EXAMPLES = [
    ["Three districts of the survey", unpacked(DEFAULTS.t, DEFAULTS.name)],
    ["Eight wards, made up", unpacked("A:22/310;B:18/96;C:5/12;D:0/4;E:61/240;F:9/55;G:2/2;H:70/520", "ward")],
  ];

  // ---------------------------------------------------------------------------------------------
  // Pictures

  const said = (one) => `${one.group}: ${one.successes} of ${one.trials}, share ${rate(one.share)}, ` +
    `mean ${rate(one.mean)} (${rate(one.low)} to ${rate(one.high)}), ${one.form}`;

  /** What shares become: a row for each of few groups, a mark for each of many. */
  function drawGroups({ table, population, counts: { called } }, width) {
    const all = [...table].sort((a, b) => a.mean - b.mean), few = all.length <= ROWS;
    const seen = all.filter((one) => one.trials), largest = Math.max(...all.map((one) => one.trials));
    const size = (one) => Math.sqrt(9 + 50 * Math.sqrt(one.trials / largest));
    const shares = seen.map((one) => one.share), low = Math.min(...shares), high = Math.max(...shares);
    const most = Math.max(high, ...all.map((one) => (few ? one.high : one.mean)));
    const end = most > 0.5 ? 1 : 1.05 * most, range = [-0.03 * end, 1.03 * end], typical = population.p_bar.mean;
    const letters = Math.max(4, Math.floor(width / 24));
    const names = all.map(({ group }) => (group.length > letters ? `${group.slice(0, letters - 1)}…` : group));
    const tall = few ? 60 + (all.length > 12 ? 20 : 30) * all.length : Math.min(width, 480);
    const axis = (label, pixels) => ({ range, label, ticks: ui.ticks(0, end, pixels / 70) });
    const at = ui.plot({ width, height: tall,
      left: few ? 42 + 7.5 * Math.max(...names.map((one) => one.length)) : 60,
      x: axis(few ? "rate" : "observed share", width),
      y: few ? { range: [all.length - 0.4, -0.6], label: called.group, ticks: names.map((name, k) => [k, name]) }
        : axis("posterior mean of the rate", tall),
      alt: `${all.length} groups: observed shares from ${rate(low)} to ${rate(high)}, posterior means from ` +
        `${rate(all[0].mean)} to ${rate(all.at(-1).mean)}, around ${rate(typical)}.` +
        `${few ? ` ${table.map(said).join("; ")}.` : ""}` });
    const path = (layer, ...points) => at.layer(layer).append(s("path", { d: ui.line(at, points) }));
    if (few) path("typical", [typical, all.length], [typical, -1]);
    else {
      path("same", [0, 0], [end, end]);
      path("typical", [0, typical], [end, typical]);
      seen.sort((a, b) => b.trials - a.trials);
    }
    for (const [k, one] of (few ? all : seen).entries()) {
      if (few) path("interval", [one.low, k], [one.high, k]);
      if (few && one.trials) {
        at.layer("share").append(s("circle", { cx: at.x(one.share), cy: at.y(k), r: size(one) }));
      }
      const x = at.x(few ? one.mean : one.share), y = at.y(few ? k : one.mean), r = few ? 4.2 : 0.7 * size(one);
      at.layer(one.form).append(one.form === "centered"
        ? s("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }, s("title", {}, said(one)))
        : s("circle", { cx: x, cy: y, r: 1.1 * r }, s("title", {}, said(one))));
    }
    return at.svg;
  }

  /** Posterior of sigma over its prior. */
  function drawSigma(made, width) {
    const curve = made.sigmaCurve(), from = curve[0].sigma, to = curve.at(-1).sigma;
    const { low, median, high, priorLow, priorHigh } = made.population.sigma;
    const at = ui.plot({ width, height: 240, x: { range: [from > 0.1 * to ? from : 0, to],
      label: "sigma: how much groups differ (logits)" },
    y: { range: [0, 1.12 * Math.max(...curve.map((one) => one.posterior))], label: "density" },
    alt: `Density of sigma: the posterior has its median at ${digits(median)} and ${percent(made.prob)} of it ` +
      `from ${digits(low)} to ${digits(high)}; the prior, dashed, from ${digits(priorLow)} to ` +
      `${digits(priorHigh)}.` });
    for (const [layer, name] of [["mass", "posterior"], ["prior", "prior"], ["posterior", "posterior"]]) {
      const points = curve.map((one) => [one.sigma, one[name]]);
      if (layer === "mass") points.push([to, 0], [from, 0]);
      at.layer(layer).append(s("path", { d: ui.line(at, points) }));
    }
    return at.svg;
  }

  // ---------------------------------------------------------------------------------------------

  function mount(place) {
    const id = `explorer-counts-${++ids}`, aloud = ui.announcer();
    let state, data, made, base, wrong, file = null, mine = "", timer, turn = 0;
    const later = (call) => {
      clearTimeout(timer);
      timer = setTimeout(call, 300);
    };
    const put = (text, name = null) => {
      [box.value, file] = [text, name];
      read();
    };

    const example = ui.choice({ label: "Example", value: "0",
      options: [...EXAMPLES.map(([title], k) => [String(k), title]), ["own", "Your own counts"]],
      oninput: (key) => put(EXAMPLES[key]?.[1] ?? mine) });
    const box = h("textarea", { rows: 10, wrap: "off", spellcheck: "false",
      "aria-describedby": `${id}-bad ${id}-hint`,
      oninput: ({ inputType }) => {
        [file, mine] = [null, box.value];
        example.set("own");
        later(() => read(inputType !== "insertFromPaste"));
      },
      ondragover: (event) => event.preventDefault(),
      ondrop: (event) => {
        if (!event.dataTransfer.files.length) return;
        event.preventDefault();
        load(event.dataTransfer.files[0]);
      } });
    const loader = h("input", { type: "file", accept: ".csv,.tsv,.txt,text/*",
      onchange: () => loader.files.length && load(loader.files[0]) });
    const bad = h("span", { id: `${id}-bad` });
    const toRow = ui.button("", () => {
      select();
      box.focus();
    });
    const adds = h("input", { type: "checkbox", onchange: () => read() });
    const keep = h("input", { type: "checkbox", onchange: write, checked: true });
    const family = ui.choice({ label: "Prior of sigma", options: FAMILIES, value: DEFAULTS.prior,
      oninput: turned });
    const scale = ui.slider({ label: "Its scale", min: SCALES[0], max: SCALES.at(-1), step: 1, value: 1,
      oninput: turned, to: (k) => SCALES[k], from: nearest,
      format: (value) => `${value}: ${counts.priorName(priorOf({ prior: family.value, scale: value }))}` });
    family.input.setAttribute("aria-describedby", `${id}-prior`);
    const compared = h("p", { class: "fx-compared", id: `${id}-prior` });
    const program = h("code"), heads = h("tr"), rows = h("tbody");
    const tool = ui.choice({ label: "Program", options: TOOLS, value: DEFAULTS.code, oninput: (key) => {
      state.code = key;
      code();
      write();
      aloud.say(`The program has ${program.textContent.trim().split("\n").length} lines.`);
    } });
    const copied = ui.button("Copy", async () => {
      copied.textContent = await ui.copy(program.textContent, program) ? "Copied" : "Selected: copy it";
      aloud.say(copied.textContent);
    });
    const save = (words, name, from = () => made) =>
      ui.button(`Save ${words}`, () => ui.saveText(counts[`${name}Csv`](from()), `${name}.csv`));
    const saves = [save("the results", "results"), save("mean and spread", "population"),
      save("the counts", "counts", () => made.counts)];

    const part = (name, ...children) => h("div", { class: `fx-${name}` }, children);
    const label = (words, input) =>
      h("label", { class: "fx-control" }, h("span", { class: "fx-label" }, words), input);
    const check = (words, input) => h("label", { class: "fx-check" }, input, words);
    const scrolls = (tag, name, child) =>
      h(tag, { class: "fx-scrolls", tabindex: 0, role: "region", "aria-label": name }, child);
    const old = h("p", { class: "fx-last" }), title = h("p", { class: "fx-title" });
    const verdict = h("p", { class: "fx-verdict" }), list = h("ul"), pictures = part("panels");
    const accuracy = h("p", { class: "fx-hint" });
    const found = part("found", old, title, verdict, list);
    const results = part("found", pictures,
      scrolls("div", "Which form for which group, and why", h("table", {}, h("thead", {}, heads), rows)),
      part("row", ...saves), part("row", tool.element, copied), scrolls("pre", "Program", program), accuracy);
    place.root.classList.add("fx-counts");
    place.root.append(part("desk", part("given", example.element,
      label("Successes and trials, a row per group", box),
      h("p", { class: "fx-bad" }, bad, " ", toRow),
      label("Or a CSV file, chosen here or dropped on the box", loader),
      check("Add up rows of one group, or count persons (0 or 1) by group", adds),
      check("Keep the counts in the address of this page", keep),
      h("p", { class: "fx-hint", id: `${id}-hint` }, "The counts stay in this browser. The address holds them " +
        `while there are at most ${SHORT} groups; whoever is given it sees them.`)), found),
    part("controls", family.element, scale.element, compared), results, aloud.element);

    async function load(chosen) {
      const bytes = chosen.size > 2 ** 26 ? { length: chosen.size } // is refused for its length
        : new Uint8Array(await chosen.arrayBuffer());
      loader.value = "";
      example.set("own");
      try {
        put(mine = counts.decode(bytes, chosen.name), chosen.name);
      } catch (error) {
        tell(wrong = error);
      }
    }

    const select = () => {
      const lines = box.value.split("\n"), before = lines.slice(0, wrong.row - 1);
      const from = before.join("\n").length + Math.sign(before.length);
      box.setSelectionRange(from, from + lines[wrong.row - 1].length);
      box.scrollTop = (box.scrollHeight * (wrong.row - 3)) / lines.length;
    };

    /** Say what is wrong, if anything is; the results of the last good table stay. */
    function tell(error) {
      if (error && !["CountsError", "Refused"].includes(error.name)) throw error;
      const refused = error && error !== wrong;
      bad.textContent = wrong ? wrong.message + (wrong.kind === "columns"
        ? " Here: name it group, successes or trials in the first row." : "") : "";
      toRow.hidden = !wrong?.row;
      toRow.textContent = `Select row ${wrong?.row}`;
      box.setAttribute("aria-invalid", Boolean(wrong));
      family.input.setAttribute("aria-invalid", Boolean(refused));
      for (const one of [found, results]) one.classList.toggle("fx-old", Boolean(error));
      old.textContent = error ? "These are the results of the last good table:" : "";
      if (refused) compared.textContent = error.message;
      if (error) aloud.say(error.message);
    }

    function read(typing) {
      clearTimeout(timer);
      try {
        data = counts.readCounts(box.value, { file, addUp: adds.checked });
      } catch (error) {
        tell(wrong = error);
        if (error.row && !typing) select();
        return;
      }
      wrong = base = undefined;
      start();
    }

    function turned() {
      [state.prior, state.scale] = [family.value, scale.value];
      scale.set(state.scale);
      if (data.group.length > ROWS) later(start);
      else start();
    }

    /** Compute at once, or, where it may take long, when the browser has said so. */
    function soon(call) {
      const now = ++turn;
      if (data.group.length <= ROWS) call();
      else {
        old.textContent = compared.textContent = "Computing …";
        requestAnimationFrame(() => setTimeout(() => now === turn && call()));
      }
    }

    function reported(prior) {
      try {
        return counts.report(data, { sigmaPrior: priorOf(prior) });
      } catch (error) {
        if (!made) { // what the address holds has no answer
          made = counts.report(counts.readCounts(EXAMPLES[0][1]));
          show();
        }
        tell(error);
        return undefined;
      }
    }

    const start = () => soon(() => {
      const next = reported(state);
      if (!next) return;
      made = next;
      if (state.prior === DEFAULTS.prior && state.scale === DEFAULTS.scale) base = made;
      tell(wrong);
      show();
      if (base) compare();
      else {
        soon(() => {
          base = reported(DEFAULTS);
          if (!base) return;
          tell(wrong);
          compare();
        });
      }
    });

    /** What this prior changes, against the book's. */
    function compare() {
      const name = counts.priorName(priorOf(state)), { median, low, high } = made.population.sigma;
      const [now, before] = [made, base].map((one) => digits(one.population.sigma.mean));
      const moved = made.table.map((one, j) => Math.abs(one.mean - base.table[j].mean));
      const j = moved.indexOf(Math.max(...moved)), own = made === base;
      compared.textContent = own ? `Under ${name}, the book's prior, sigma has a mean of ${now}.`
        : `Under ${name} sigma has a mean of ${now}, under ${counts.priorName(priorOf(DEFAULTS))} ${before}; ` +
          `${made.counts.called.group} ${made.table[j].group} moves most, from ${rate(base.table[j].mean)} to ` +
          `${rate(made.table[j].mean)}.`;
      if (!wrong) {
        aloud.say(own ? `${made.title}: sigma is ${digits(median)} (${digits(low)} to ${digits(high)}), and the ` +
          `${made.form} form is recommended.` : compared.textContent);
      }
    }

    function code() {
      tool.set(state.code);
      program.textContent = counts.program(state.code, made.recipe);
      copied.textContent = "Copy";
    }

    function draw() {
      const all = place.width(), wide = all >= 760, first = wide ? Math.round(0.58 * all) : all;
      const inside = percent(made.prob);
      const marks = "Orange square: the centered form suits the group; blue dot: the non-centered.";
      const panel = (name, draws, width, words) => {
        const svg = draws(made, width);
        return h("figure", { class: "fx-panel", style: `width:${width}px` }, h("figcaption", {}, name), svg,
          h("p", { class: "fx-hint" }, words), ui.button("Save as SVG", () => ui.savePicture(svg, `${name}.svg`)));
      };
      pictures.replaceChildren(
        panel("What shares become", drawGroups, first, made.table.length > ROWS
          ? `${marks} Larger with more trials. On the line nothing has moved; dotted: a typical group.`
          : "Open circle: observed share, larger with more trials. Mark and line: posterior mean and " +
            `${inside} interval. ${marks} Dotted: a typical group.`),
        panel("How much groups differ", drawSigma, wide ? all - first - 16 : all,
          "Line: posterior of sigma; dashed: its prior."));
    }

    function show() {
      const { called } = made.counts;
      title.textContent = made.title;
      [verdict.textContent] = made.findings;
      list.replaceChildren(...[...made.findings.slice(1), ...made.notes].map((one) => h("li", {}, one)));
      accuracy.textContent = made.accuracy;
      const names = [called.group, "counts", "share", `rate (${percent(made.prob)} interval)`, "form, and why"];
      heads.replaceChildren(...names.map((one) => h("th", { scope: "col" }, one)));
      rows.replaceChildren(...made.table.map((one) => h("tr", {}, h("th", { scope: "row" }, one.group),
        [`${one.successes} of ${one.trials}`, rate(one.share),
          `${rate(one.mean)} (${rate(one.low)} to ${rate(one.high)})`,
          `${one.form === "centered" ? "■" : "●"} ${one.reason}`].map((words) => h("td", {}, words)))));
      code();
      draw();
      write();
    }

    function write() {
      const { t, name } = DEFAULTS, held = keep.checked && made.table.length <= SHORT;
      place.changed(ui.writeState({ ...state, t: held ? packed(made.counts) : t,
        name: held ? made.counts.called.group : name }, DEFAULTS).replace(/%(2F|3A|3B)/g, decodeURIComponent));
    }

    function set(text) {
      state = ui.readState(text, DEFAULTS, { scale: (v) => v >= SCALES[0] && v <= SCALES.at(-1),
        prior: among(FAMILIES), code: among(TOOLS) });
      const table = unpacked(state.t, state.name) ?? EXAMPLES[0][1];
      const known = EXAMPLES.findIndex((one) => one[1] === table);
      if (known < 0) mine = table;
      example.set(known < 0 ? "own" : String(known));
      family.set(state.prior);
      scale.set(state.scale);
      state.scale = scale.value;
      put(table);
    }

    set(place.state);
    place.onresize(draw);
    return { set };
  }

  explorer.instrument("counts", mount);
})((globalThis.fieldguideExplorer ??= {}));
