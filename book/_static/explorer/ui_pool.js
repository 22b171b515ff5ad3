// One spread after the other: with sigma from nought upwards, from one rate for all to strangers.
"use strict";
((explorer) => {
  const { ui, counts } = explorer, { h, s, digits, line } = ui;

  const CHOICES = {
    set: ["three", "sixty"],
    prior: ["Exponential(1)", "HalfNormal(0.5)", "HalfNormal(0.25)", "HalfNormal(0.1)"],
    order: ["number of women", "own share"],
  };
  const LABELS = { set: "Districts", prior: "Prior of σ", order: "Order by" };
  const DEFAULTS = { set: "three", sigma: 0.5, prior: "Exponential(1)", order: "number of women" };

  // sigma's place on slider and axes, from 0 to 100: even near nought, logarithmic further on
  const MOST = 10, BEND = 0.2, PACE = Math.asinh(MOST / BEND) / 100;
  const place = (sigma) => Math.asinh(sigma / BEND) / PACE;
  const spread = (at) => BEND * Math.sinh(PACE * at);
  const PLACES = Array.from({ length: 201 }, (_, k) => k / 2);
  const AXIS = { range: [0, 100], label: "spread σ (logits)",
    ticks: [0, 0.1, 0.2, 0.5, 1, 2, 5, 10].map((v) => [place(v), v]) };
  const percent = (share) => (share > 0.999 && share < 1 ? "over 99.9%" : ui.percent(share));

  function read(text) {
    const state = ui.readState(text, DEFAULTS, { sigma: (v) => v >= 0 && v <= MOST });
    for (const name in CHOICES) if (!CHOICES[name].includes(state[name])) state[name] = DEFAULTS[name];
    return state;
  }

  /** What does not depend on a sigma. Densities are along the axis, so that areas are probabilities. */
  function modelOf({ set, prior }) {
    const { successes, trials, district } = set === "three" ? explorer.attempts : explorer.survey;
    const given = counts.givenSpread(successes, trials), exact = counts.exactPosterior(successes, trials, {
      sigmaPrior: { family: prior[0] === "E" ? "exponential" : "half-normal", scale: +prior.match(/[\d.]+/) } });
    const along = (density) => (at) => density(spread(at || 1e-6)) * PACE * Math.hypot(spread(at), BEND);
    return {
      district, trials, given, exact, own: successes.map((y, j) => y / trials[j]),
      sds: PLACES.filter((at) => at < 6 || at % 2 === 0).map((at) => [at, given(spread(at)).sd]),
      before: along(exact.priorDensity), after: along(exact.sigmaDensity),
    };
  }

  const known = {};

  explorer.instrument("pool", (home) => {
    let state = read(home.state), move;
    const chosen = Object.keys(CHOICES).map((name) => [name, ui.choice({ label: LABELS[name], value: state[name],
      options: CHOICES[name].map((v) => [v, v]), oninput: (v) => go({ [name]: v }) })]);
    const slider = ui.slider({ label: "Spread σ", min: 0, max: MOST, step: "any", value: state.sigma, to: spread,
      from: place, oninput: (sigma) => go({ sigma }) });
    const verdict = h("p", { class: "fx-verdict" }), aloud = ui.announcer();
    const figures = ["The districts' rates, were σ known", "What the data say of σ",
      "How unsure each district's effect is"].map((title) => h("figure", { class: "fx-panel" },
      h("figcaption", {}, title)));
    home.root.append(
      h("div", { class: "fx-controls" }, chosen.map(([, one]) => one.element)), verdict,
      h("div", { class: "fx-pool" }, figures[0], h("div", {}, slider.element, figures[1], figures[2])),
      aloud.element);

    /** A picture, over sigma if not told otherwise, and a function: layer -> (path data -> drawn). */
    function picture(figure, key, options) {
      const drag = (event) => go({ sigma: spread(made.at(event)[0]) });
      const made = ui.plot({ width: figure.clientWidth, ...(options.x ? {} : { x: AXIS, class: "fx-pool-drag",
        onclick: drag, onpointerdown: ({ pointerId }) => made.svg.setPointerCapture(pointerId),
        onpointermove(event) { // what goes up or down may be about to scroll the page
          if (event.buttons && !(Math.abs(event.movementX) <= Math.abs(event.movementY))) drag(event);
        } }), ...options });
      figure.replaceChildren(figure.firstChild, h("p", { class: "fx-hint" }, key), made.svg);
      return [made, (layer) => {
        const path = made.layer(`pool-${layer}`).appendChild(s("path"));
        return (d) => path.setAttribute("d", d);
      }];
    }

    /** All pictures anew; `move` sets them to a sigma. */
    function draw() {
      const { district, trials, own, given, exact, before, after, sds } =
        (known[state.set + state.prior] ??= modelOf(state));
      const few = own.length < 9, third = district.indexOf("3"), by = state.order === "own share" ? own : trials;
      const order = [...district.keys()].sort((a, b) => by[b] - by[a]);
      const named = few ? order : [third], told = few ? order : [...new Set([order[0], third, order.at(-1)])];

      const [rates, path] = picture(figures[0], "Circle: own share. Dot, bar: mean, 89% interval. Line: a " +
        `typical district.${few ? " Thin, below each: averaged over σ's posterior." : ""}`, {
        height: few ? 280 : 500, left: 76, class: few && "fx-pool-few",
        x: { range: [-0.03, 1.03], label: "share using contraception",
          ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, percent(v)]) },
        y: { range: [order.length - 0.5, -0.5], label: "district (women)",
          ticks: told.map((j) => [order.indexOf(j), `${district[j]} (${trials[j]})`]) } });
      const each = (of) => order.map((j, row) => of(j, rates.y(row))).join("");
      const dots = (at, down = 0) => each((j, y) => `M${rates.x(at[j])} ${y + down}h0`);
      const bars = (ends, down = 0) => each((j, y) =>
        `M${rates.x(ends[j][0])} ${y + down}H${rates.x(ends[j].at(-1))}`);
      path("own")(dots(own));
      path("hole")(dots(own));
      if (few) {
        path("exact")(bars(exact.rate.quantiles, 14));
        path("exact-dots")(dots(exact.rate.mean, 14));
      }

      const [low, , high] = exact.sigma.quantiles, most = `${digits(low)} to ${digits(high)}`;
      const [belief, add] = picture(figures[1], `Solid: posterior; shaded: 89%, ${most}. Dashed: prior.`, {
        height: 170, y: { label: "density", ticks: [],
          range: [0, 1.08 * Math.max(...PLACES.flatMap((at) => [before(at), after(at)]))] } });
      const curve = (density, from = 0, to = 100) => line(belief, PLACES.map((k) => from + (k * (to - from)) / 100)
        .map((at) => [at, density(at)]));
      add("most")(`${curve(after, place(low), place(high))}V${belief.y(0)}H${belief.x(place(low))}`);
      add("prior")(curve(before));
      add("posterior")(curve(after));

      const [wide, also] = picture(figures[2], "One curve for each district.", { height: 210, y: {
        range: [-1.4, 1.2], label: "sd (logits)", ticks: [0.1, 0.3, 1, 3, 10].map((v) => [Math.log10(v), v]) } });
      district.forEach((name, j) => {
        const points = sds.map(([at, sd]) => [at, Math.log10(sd[j])]), mine = named.includes(j);
        also(mine ? "named" : "sds")(line(wide, points));
        if (mine) wide.layer("pool-words").append(s("text", { x: wide.x(100) - 6,
          y: wide.y(points.at(-1)[1]) - 8, "text-anchor": "end" }, `district ${name}`));
      });

      const [rule, bar, dot, mark, mark2] = [path("rule"), path("bars"), path("dots"), add("mark"), also("mark")];
      move = () => {
        const { sigma } = state, { rate: { mean, quantiles }, sd, alphaBar } = given(sigma, [0.055, 0.945]);
        const upright = (on, at) => `M${on.x(at)} 0v999`, at = place(sigma), value = digits(sigma);
        rule(upright(rates, counts.quadrature.expit(alphaBar.mean)));
        bar(bars(quantiles));
        dot(dots(mean));
        mark(upright(belief, at));
        mark2(upright(wide, at));
        slider.set(sigma);

        const says = (j) => `${percent(mean[j])} (${quantiles[j].map(percent).join(" to ")})`;
        const list = (of) => order.map((j) => `${district[j]}: ${of(j)}`).join("; ");
        const share = PLACES.slice(1).reduce((sum, k) => sum + after(((k - 0.25) / 100) * at), 0);
        const below = `${percent((share * at) / 200)} of the posterior of σ lies below`;
        const words = `With σ = ${value}, district 3's rate is ${says(third)}; ${below}.`;
        aloud.say(words);
        verdict.textContent = `${words} Its own share is ${percent(own[third])}; averaged over the posterior ` +
          `of σ, its rate is ${percent(exact.rate.mean[third])}.`;
        rates.say(`Rates given σ = ${value}, 89% intervals, by district: ${list(says)}`);
        belief.say(`Posterior of σ: 89% from ${most}; ${below} ${value}`);
        wide.say(`Sds given σ = ${value}, by district: ${list((j) => digits(sd[j]))}`);
      };
      move();
    }

    function go(now) {
      Object.assign(state, now);
      if ("sigma" in now) move();
      else draw();
      home.changed(ui.writeState(state, DEFAULTS));
    }

    home.onresize(draw);
    draw();
    return {
      set(text) {
        state = read(text);
        for (const [name, one] of chosen) one.set(state[name]);
        draw();
      },
    };
  });
})(globalThis.fieldguideExplorer);
