// Break a path: a Hamiltonian path on the posterior of three districts, in any form between the centered
// and the non-centered, over exact contours in both coordinates, with its energy error; and no-U-turn draws.
"use strict";
((explorer) => {
  const { h, s, digits, percent, plot, line, slider, choice, button } = explorer.ui;
  const PRIORS = {
    "Exponential(1)": { family: "exponential", scale: 1 },
    "HalfNormal(0.5)": { family: "half-normal", scale: 0.5 },
    "HalfNormal(0.25)": { family: "half-normal", scale: 0.25 },
    "HalfNormal(0.1)": { family: "half-normal", scale: 0.1 },
  };
  const SHARES = [0.95, 0.8, 0.5, 0.2]; // of the probability, within the contours
  const SIGMA = [0.01, 5]; // shown
  const SIGMAS = [0.01, 0.03, 0.1, 0.3, 1, 3].map((one) => [Math.log(one), String(one)]);
  const Z = [-3.6, 3.6];
  const GRID = 46;
  const BATCH = 500;
  const PACE = 70; // milliseconds for a step that is watched
  const squeeze = (error) => Math.asinh(4 * error);

  function halve(low, high, rising) {
    for (let k = 0; k < 50; k++) {
      const middle = 0.5 * (low + high);
      if (rising(middle) < 0) low = middle;
      else high = middle;
    }
    return 0.5 * (low + high);
  }

  /** The most probable [alpha_bar, effects] where district j's effect and sigma are given. */
  function mostProbable(model, j, effect, logSigma) {
    const variance = Math.exp(2 * logSigma);
    const { mean, sd } = model.alphaPrior;
    const effects = (m) => model.trials.map((n, k) => (k === j ? effect
      : halve(m - variance * n, m + variance * n,
        (a) => (a - m) / variance - model.successes[k] + n * explorer.expit(a))));
    const alphaBar = halve(-60, 60, (m) => (m - mean) / sd ** 2
      - effects(m).reduce((sum, a) => sum + (a - m), 0) / variance);
    return [alphaBar, effects(alphaBar)];
  }

  /** Density of district j's effect, or of its z, and log sigma; and mean and sd of either given sigma. */
  function landscape(data, prior, j) {
    const model = explorer.posterior({ ...data, sigmaPrior: prior, form: "centered" });
    const posterior = explorer.exact(model);
    const { mean, sd } = explorer.moments(posterior, model);
    const range = [mean[j + 2] - 3.2 * sd[j + 2], mean[j + 2] + 3.6 * sd[j + 2]];
    const space = ([low, high]) => Array.from({ length: GRID }, (_, i) => low + ((high - low) * i) / (GRID - 1));
    const rows = explorer.rowsAt(posterior, space(SIGMA.map(Math.log)));
    const lines = [["centered", range], ["non-centered", Z]].map(([form, along]) => {
      const xs = space(along);
      const of = explorer.posterior({ ...data, sigmaPrior: prior, form });
      const grid = explorer.jointDensity(posterior, of, j, xs, rows);
      const ys = rows.map((row) => row.logSigma);
      const logs = grid.map((row) => row.map((density) => Math.log(density + 1e-12))); // bends less than the density
      return explorer.levels(grid, SHARES).map((level) => explorer.contours(xs, ys, logs, Math.log(level)));
    });
    const low = halve(-12, 3, (at) => explorer.belowLogSigma(posterior, at) - 0.05);
    return { posterior, range, lines, low };
  }

  /** Mean and sd of district j's effect where sigma is given, and of its z. */
  function given(posterior, j, logSigma) {
    const [row] = explorer.rowsAt(posterior, [logSigma]);
    const total = row.points.reduce((sum, one) => sum + one.weight, 0);
    const about = (value, spread) => {
      const m = row.points.reduce((sum, one) => sum + one.weight * value(one), 0) / total;
      const v = row.points.reduce((sum, one) => sum + one.weight * (spread(one) + (value(one) - m) ** 2), 0) / total;
      return [m, Math.sqrt(v)];
    };
    const sigma = Math.exp(logSigma);
    return [about((one) => one.mean + one.shift[j], (one) => one.variance[j]),
      about((one) => one.shift[j] / sigma, (one) => one.variance[j] / sigma ** 2)];
  }

  function mount(place) {
    const { attempts } = explorer;
    const { district, successes, trials, alphaPrior } = attempts;
    const data = { successes, trials, alphaPrior };
    const ids = attempts.attempts.map((one) => one.id);
    const attemptOf = (id) => attempts.attempts.find((one) => one.id === id);
    const nameOf = ({ family, scale }) => Object.keys(PRIORS)
      .find((name) => PRIORS[name].family === family && PRIORS[name].scale === scale);
    const rounded = (value) => Number(value.toPrecision(3));
    const defaultsOf = (id) => ({
      attempt: id, form: attemptOf(id).form === "centered" ? 0 : 1, step: rounded(attemptOf(id).chains[0].step),
      prior: nameOf(attemptOf(id).sigmaPrior), steps: 16, district: district.length, effect: 0, sigma: 0.4, seed: 1, draws: 0,
    });
    const within = (low, high) => (value) => value >= low && value <= high;
    const checks = {
      attempt: (id) => ids.includes(id), form: within(0, 1), step: within(0.005, 3), prior: (name) => name in PRIORS,
      steps: (n) => Number.isInteger(n) && n >= 1 && n <= 100, sigma: within(...SIGMA), effect: within(-9, 9),
      district: (k) => Number.isInteger(k) && k >= 1 && k <= district.length, seed: Number.isInteger,
      draws: (n) => Number.isInteger(n / BATCH) && n >= 0 && n <= 20 * BATCH,
    };
    function read(text) {
      const { attempt } = explorer.ui.readState(text, { attempt: ids[0] }, checks);
      return explorer.ui.readState(text, defaultsOf(attempt), checks);
    }

    let state = read(place.state);
    let now = {}; // what follows from the state
    let chain = null; // of the draws
    let shown = Infinity; // steps of the path that have been watched
    let frame = 0;
    const known = new Map(); // landscapes
    const aloud = explorer.ui.announcer();

    // --- controls
    const change = (name) => (value) => apply({ [name]: value });
    const log = { to: (v) => rounded(Math.exp(v)), from: (v) => Math.log(v), step: 0.01 };
    const controls = {
      attempt: choice({ label: "Attempt of the book", value: state.attempt,
        options: attempts.attempts.map((one) => [one.id, one.label]),
        oninput: (id) => apply({ ...defaultsOf(id), effect: state.effect, sigma: state.sigma, seed: state.seed,
          district: state.district, steps: state.steps }) }),
      form: slider({ label: "Form, from centered to non-centered", min: 0, max: 1, step: 0.05, value: state.form,
        oninput: change("form"), format: (v) => (v === 0 ? "centered" : v === 1 ? "non-centered" : `${digits(100 * v)}% of the way`) }),
      step: slider({ label: "Step size", min: 0.005, max: 3, value: state.step, oninput: change("step"), ...log }),
      steps: slider({ label: "Steps in the path", min: 1, max: 100, step: 1, value: state.steps, oninput: change("steps") }),
      prior: choice({ label: "Prior of σ", options: Object.keys(PRIORS).map((name) => [name, name]),
        value: state.prior, oninput: change("prior") }),
      district: choice({ label: "District shown", value: String(state.district), oninput: (v) => apply({ district: Number(v) }),
        options: district.map((name, k) => [String(k + 1), `district ${name}: ${successes[k]} of ${trials[k]} women`]) }),
      effect: slider({ label: "Start: effect (log odds)", min: -9, max: 9, step: 0.05, value: state.effect, oninput: change("effect") }),
      sigma: slider({ label: "Start: σ", min: SIGMA[0], max: SIGMA[1], value: state.sigma, oninput: change("sigma"), ...log }),
    };
    const again = button("Watch the path", () => watch());
    const buttons = [
      button("New momentum", () => {
        apply({ seed: state.seed + 1 }, true);
        watch();
      }),
      again,
      button(`Run ${BATCH} transitions`, () => apply({ draws: state.draws + BATCH })),
      button("Clear the draws", () => apply({ draws: 0 })),
    ];
    const verdict = h("p", { class: "fx-verdict" });
    const ran = h("p", { class: "fx-verdict fx-ran" });
    const panels = [
      ["effect", "The district’s effect"], ["z", "z = (effect − mean) / σ"], ["error", "Energy error along the path"],
    ].map(([name, title]) => h("figure", { class: `fx-panel fx-at-${name}` }, h("figcaption", {}, title, h("span", {}))));
    const legend = h("p", { class: "fx-hint fx-legend" }, "Lines: 20, 50, 80 and 95% of the exact posterior. Ring: start, drag it or tap "
      + "elsewhere. Dots and crosses of a run: draws; a cross was kept of a path that diverged, maybe far from where it broke. Bars through the start’s σ: where the district is known to lie (grey, ± one sd) and, below it, one step "
      + "(coloured); a step longer than the grey bar cannot stay. Tinted steps are longer than the longest stable one.");
    place.root.classList.add("fx-path");
    place.root.append(
      h("div", { class: "fx-row fx-at-top" }, controls.attempt.element, ...buttons), ...panels,
      h("div", { class: "fx-at-words" }, verdict, ran, aloud.element),
      h("div", { class: "fx-controls fx-at-controls" },
        ["form", "step", "steps", "prior", "district", "effect", "sigma"].map((name) => controls[name].element)),
      legend,
    );

    // --- what follows from the state
    function compute() {
      const j = state.district - 1;
      const sigmaPrior = PRIORS[state.prior];
      const key = `${state.prior} ${j}`;
      if (!known.has(key)) known.set(key, landscape(data, sigmaPrior, j));
      const land = known.get(key);
      const model = explorer.posterior({ ...data, sigmaPrior, weight: 1 - state.form });
      const of = defaultsOf(state.attempt);
      const adapted = of.form === state.form && of.prior === state.prior;
      const scale = adapted ? attemptOf(state.attempt).chains[0].scale : explorer.moments(land.posterior, model).sd;
      const target = (q, gradient) => explorer.logDensity(model, q, gradient);
      const logSigma = Math.log(state.sigma);
      const [alphaBar, effects] = mostProbable(model, j, state.effect, logSigma);
      const q = explorer.coordinates(model, alphaBar, logSigma, effects);
      const p = explorer.newMomentum(scale, explorer.seeded(state.seed));
      const made = explorer.path(target, explorer.stateAt(target, q, p), { step: state.step, scale, steps: state.steps });
      const points = made.states.map((one) => {
        const effect = explorer.effects(model, one.q)[j];
        return { y: one.q[1], x: [effect, (effect - one.q[0]) / Math.exp(one.q[1])] };
      });
      const stable = made.states.map((one) => explorer.longestStableStep(target, one.q, scale));
      now = { j, land, model, scale, target, q, points, stable, adapted, ...made,
        local: given(land.posterior, j, logSigma) };
    }

    function run() {
      if (!state.draws) {
        chain = null;
        return;
      }
      const settings = { step: state.step, scale: now.scale };
      const key = JSON.stringify([settings, now.q, state.form, state.prior]);
      if (chain?.key !== key || chain.drawn > state.draws) {
        chain = { key, drawn: 0, rng: explorer.seeded(state.seed, 7), last: now.q, positions: [], diverged: [], acceptance: 0 };
      }
      while (chain.drawn < state.draws) {
        const more = explorer.sample(now.target, chain.last, settings, chain.rng, BATCH);
        chain.positions.push(...more.positions);
        chain.diverged.push(...more.diverged);
        chain.acceptance += more.acceptance * BATCH;
        chain.last = more.last;
        chain.drawn += BATCH;
      }
    }

    // --- pictures
    let drawn = []; // plots
    let handles = [];
    const width = () => place.width();

    function frames() {
      const wide = width() >= 620;
      place.root.classList.toggle("fx-narrow", !wide);
      const half = wide ? Math.floor((width() - 16) / 2) : width();
      const y = { range: SIGMA.map(Math.log), ticks: SIGMAS, label: "σ (log scale)" };
      const size = { width: half, height: wide ? 320 : 270 };
      const top = squeeze(5000);
      drawn = [
        plot({ ...size, x: { range: now.land.range, label: `effect of district ${district[now.j]} (log odds)` }, y }),
        plot({ ...size, x: { range: Z, label: `z of district ${district[now.j]}` }, y }),
        plot({ width: width(), height: 190, y: { range: [squeeze(-50), top], label: "energy error",
          ticks: [-10, 0, 1, 10, 100, 1000].map((e) => [squeeze(e), digits(e, 4)]) },
        x: { range: [0, state.steps], label: "step of the path" } }),
      ];
      handles = drawn.slice(0, 2).map((at, k) => {
        const back = at.layer("contours");
        now.land.lines[k].forEach((lines) => lines.forEach((points) => {
          back.append(s("path", { class: "fx-contour", d: line(at, points) }));
        }));
        for (const name of ["draws", "bars", "path", "top"]) at.layer(name);
        const handle = s("circle", { class: "fx-start", r: 8 });
        at.layer("top").append(handle);
        drag(at, handle, k);
        return handle;
      });
      drawn[2].layer("tint");
      drawn[2].layer("lines").append(
        s("path", { class: "fx-limit", d: line(drawn[2], [[0, squeeze(1000)], [state.steps, squeeze(1000)]]) }),
        s("path", { class: "fx-zero", d: line(drawn[2], [[0, 0], [state.steps, 0]]) }));
      drawn[2].layer("path");
      panels.forEach((panel, k) => {
        panel.querySelector("svg")?.remove();
        panel.append(drawn[k].svg);
      });
    }

    function drag(at, handle, k) {
      const move = (event) => {
        const [x, y] = at.at(event);
        const sigma = Math.exp(y);
        const effect = k === 0 ? x : halve(-30, 30, (a) => {
          const [alphaBar] = mostProbable(now.model, now.j, a, y);
          return (a - alphaBar) / sigma - x;
        });
        apply({ effect: Number(Math.max(-9, Math.min(9, effect)).toFixed(2)), sigma: rounded(sigma), draws: 0 }, false, true);
      };
      handle.addEventListener("pointerdown", (event) => {
        handle.setPointerCapture(event.pointerId);
        handle.onpointermove = move;
        event.preventDefault();
      });
      for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => (handle.onpointermove = null));
      at.svg.addEventListener("click", (event) => event.target !== handle && move(event));
    }

    const color = () => (state.form === 0 ? "var(--fx-centered)" : state.form === 1 ? "var(--fx-non-centered)" : "var(--fx-partial)");
    const bounded = (at, [x, y]) => {
      const keep = (v, [low, high]) => Math.max(low - 3 * (high - low), Math.min(high + 3 * (high - low), v));
      return [keep(x, at.xRange), keep(y, at.yRange)];
    };

    /** The path as far as it has been watched: whole steps, and a part of the next. */
    function pathUpTo(points, upTo) {
      const whole = Math.min(points.length - 1, Math.floor(upTo));
      const seen = points.slice(0, whole + 1);
      const rest = upTo - whole;
      if (whole + 1 < points.length && rest > 0 && Number.isFinite(rest)) {
        const [a, b] = [points[whole], points[whole + 1]];
        seen.push(a.map((v, i) => v + rest * (b[i] - v)));
      }
      return seen;
    }

    function draw() {
      const upTo = Math.min(shown, now.points.length - 1);
      const done = upTo >= now.points.length - 1;
      place.root.style.setProperty("--fx-path", color());
      panels.forEach((panel, k) => {
        panel.querySelector("span").textContent = state.form === k && k < 2 ? ": here the sampler moves" : "";
      });
      drawn.slice(0, 2).forEach((at, k) => {
        at.xRange = k ? Z : now.land.range;
        at.yRange = SIGMA.map(Math.log);
        const points = now.points.map((one) => bounded(at, [one.x[k], one.y]));
        const seen = pathUpTo(points, upTo);
        const [start, end] = [points[0], seen.at(-1)];
        handles[k].setAttribute("cx", at.x(start[0]));
        handles[k].setAttribute("cy", at.y(start[1]));
        const [x, y] = [at.x(end[0]), at.y(end[1])];
        at.layer("path").replaceChildren(
          s("path", { class: "fx-line", d: line(at, seen) }),
          s("path", { class: "fx-dots", d: points.slice(1, 1 + Math.floor(upTo)).map(([a, b]) => `M${at.x(a).toFixed(1)} ${at.y(b).toFixed(1)}h0`).join("") }),
          done && now.diverged ? s("path", { class: "fx-cross", d: `M${x - 7} ${y - 7}l14 14m0 -14l-14 14` })
            : s("circle", { class: "fx-end", cx: x, cy: y, r: 5 }));
        const [m, sd] = now.local[k];
        const one = state.step * now.scale[now.j + 2] * state.sigma ** (state.form - k);
        const height = at.y(start[1]);
        const bar = (from, to, by, name) => s("path", { class: name, d: `M${at.x(from)} ${height + by}H${at.x(to)}` });
        const clip = (v) => Math.max(at.xRange[0], Math.min(at.xRange[1], v));
        at.layer("bars").replaceChildren(bar(clip(m - sd), clip(m + sd), 0, "fx-width"), bar(clip(m - one / 2), clip(m + one / 2), 7, "fx-step"));
        draws(at, k);
        at.say(altOf(k));
      });
      const at = drawn[2];
      const errors = now.errors.map((e, i) => [i, squeeze(Number.isNaN(e) || e > 5000 ? 5000 : Math.max(-50, e))]);
      const base = at.y(squeeze(-50));
      at.layer("tint").replaceChildren(...now.stable.slice(0, -1).map((longest, i) => (state.step > longest && i < upTo
        ? s("rect", { x: at.x(i), y: 10, width: at.x(1) - at.x(0), height: base - 10 }) : "")));
      const seen = pathUpTo(errors, upTo);
      at.layer("path").replaceChildren(s("path", { class: "fx-line", d: line(at, seen) }),
        s("path", { class: "fx-dots", d: errors.slice(0, 1 + Math.floor(upTo)).map(([a, b]) => `M${at.x(a).toFixed(1)} ${at.y(b).toFixed(1)}h0`).join("") }));
      at.say(altOf(2));
    }

    function draws(at, k) {
      if (at.chain === chain && at.count === (chain?.drawn ?? 0)) return;
      [at.chain, at.count] = [chain, chain?.drawn ?? 0];
      const mark = (crosses) => (chain?.positions ?? []).map((q, i) => {
        if (chain.diverged[i] !== crosses) return "";
        const effect = explorer.effects(now.model, q)[now.j];
        const value = k ? (effect - q[0]) / Math.exp(q[1]) : effect;
        const inside = (v, [low, high]) => (crosses ? Math.max(low, Math.min(high, v)) : v); // at the edge, if beyond
        const [x, y] = [at.x(inside(value, at.xRange)).toFixed(1), at.y(inside(q[1], at.yRange)).toFixed(1)];
        return crosses ? `M${x - 3} ${y - 3}l6 6m0 -6l-6 6` : `M${x} ${y}h0`;
      }).join("");
      at.layer("draws").replaceChildren(s("path", { class: "fx-draw", d: mark(false) }), s("path", { class: "fx-divergent", d: mark(true) }));
    }

    // --- words
    const formWords = () => (state.form === 0 ? "centered" : state.form === 1 ? "non-centered"
      : `${digits(100 * state.form)}% of the way to the non-centered form`);

    function pathWords() {
      const last = now.errors.length - 1;
      const sigmaAt = (k) => digits(Math.exp(now.points[k].y));
      const ratio = (k) => {
        const share = state.step / now.stable[k];
        return share > 1 ? `${digits(share, 3)} times as long as` : `${digits(100 * share)}% of`;
      };
      const first = now.stable.slice(0, last).findIndex((longest) => state.step > longest);
      const local = `Its step of ${digits(state.step)} is ${ratio(0)} the longest stable one at the start, where σ is ${digits(state.sigma)}`
        + `${first > 0 ? `, and ${ratio(first)} that after step ${first}, where σ is ${sigmaAt(first)}` : ""}.`;
      if (now.diverged) {
        return `The path breaks at step ${last} of ${state.steps}: its energy has risen by more than 1000, which a sampler `
          + `reports as a divergence. ${local}`;
      }
      const largest = Math.max(...now.errors.map(Math.abs));
      return `The path holds for ${state.steps === 1 ? "its one step" : `all ${state.steps} steps`}: its energy error ${largest < 0.01 ? "stays under 0.01" : `reaches ${digits(largest)}`}, and its end, where σ is `
        + `${sigmaAt(last)}, would be accepted with probability ${digits(Math.min(1, Math.exp(-now.errors[last])))}. ${local}`;
    }

    function runWords() {
      const { divergences, transitions, label } = attemptOf(state.attempt);
      const book = `The book’s fit “${label}” had ${divergences} divergences in ${transitions} transitions.`;
      if (!chain) return now.adapted ? book : "";
      const count = chain.diverged.filter(Boolean).length;
      const least = chain.positions.reduce((low, q) => Math.min(low, q[1]), Infinity);
      const below = chain.positions.filter((q) => q[1] < now.land.low).length / chain.drawn;
      return `${chain.drawn} transitions from this start: ${count} divergent, mean acceptance ${digits(chain.acceptance / chain.drawn)}. `
        + `No draw has a σ below ${digits(Math.exp(least))}, where ${percent(explorer.belowLogSigma(now.land.posterior, least))} of the exact `
        + `probability lies. In the lowest 5% of σ (below ${digits(Math.exp(now.land.low))}) ${below ? `lie ${percent(below)}` : "lies none"} of the draws.`
        + `${now.adapted ? ` ${book}` : ""}`;
    }

    function altOf(k) {
      const { points, errors, diverged } = now;
      const end = points.at(diverged ? -2 : -1) ?? points[0];
      const what = ["effect", "z"][k];
      if (k === 2) {
        return `Energy error by step, ${diverged ? `beyond 1000 at step ${errors.length - 1}` : `between ${digits(Math.min(...errors))} and ${digits(Math.max(...errors))}`}; dotted line at 1000.`;
      }
      return `The district’s ${what} against sigma, over the exact density. The path, ${formWords()}, starts at ${what} ${digits(points[0].x[k])}, sigma ${digits(state.sigma)}, `
        + `and ${diverged ? "breaks after" : "ends at"} ${what} ${digits(end.x[k])}, sigma ${digits(Math.exp(end.y))}.`
        + `${chain ? ` ${chain.drawn} draws, ${chain.diverged.filter(Boolean).length} of them divergent, marked by crosses.` : ""}`;
    }

    function speak() {
      const [path, draws] = [pathWords(), runWords()];
      verdict.textContent = path;
      ran.textContent = draws;
      aloud.say(chain ? `${path} ${draws}` : path);
      buttons[3].disabled = !chain;
    }

    // --- changes
    function apply(change, quiet = false, dragged = false) {
      const before = state;
      state = { ...state, ...change };
      if (!("draws" in change)) state.draws = 0; // draws of another setting say nothing of this one
      for (const [name, control] of Object.entries(controls)) {
        if (String(control.value) !== String(state[name])) control.set(state[name]);
      }
      cancelAnimationFrame(frame);
      shown = Infinity;
      compute();
      run();
      if (!drawn.length || !dragged && ["prior", "district", "steps"].some((name) => before[name] !== state[name])) frames();
      draw();
      if (!quiet) speak();
      place.changed(explorer.ui.writeState(state, { ...defaultsOf(state.attempt), attempt: ids[0] }));
    }

    function watch() {
      cancelAnimationFrame(frame);
      const last = now.points.length - 1;
      if (explorer.ui.still()) {
        speak();
        return;
      }
      let begun = null;
      verdict.textContent = "The path is being drawn …";
      const tick = (time) => {
        begun ??= time;
        shown = (time - begun) / PACE;
        draw();
        if (shown < last) frame = requestAnimationFrame(tick);
        else {
          shown = Infinity;
          speak();
        }
      };
      frame = requestAnimationFrame(tick);
    }

    place.onresize(() => {
      frames();
      draw();
    });
    apply({ draws: state.draws });
    return {
      set(text) {
        state = read(text);
        drawn = [];
        apply({ draws: state.draws });
      },
    };
  }

  explorer.instrument("path", mount);
})((globalThis.fieldguideExplorer ??= {}));
