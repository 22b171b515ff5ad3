// What the exact posterior of a table means for a sampler: as fieldguide.your_counts says it.
"use strict";
((explorer) => {
  const counts = (explorer.counts ??= {});
  const LIMIT = 5; // factor by which the width of a coordinate may change between the ends of sigma
  const ENDS = [0.01, 0.99];
  const KNOWN = 0.85; // share of what is known above which one form is the other's opposite

  const groupsOf = (count) => (count === 1 ? "1 group" : `${count} groups`);
  const sum = (values) => values.reduce((a, b) => a + b, 0);

  /** A prior as PyMC writes it. */
  function priorName({ family, scale = 1, df }) {
    const g = (value) => counts.numbers.general(value, 6);
    if (family === "exponential") return `Exponential(${g(1 / scale)})`;
    if (family === "half-student-t") return `HalfStudentT(${g(df)}, ${g(scale)})`;
    return `${family === "half-normal" ? "HalfNormal" : "HalfCauchy"}(${g(scale)})`;
  }

  /**
   * Report on counts as `readCounts` returns them.
   *
   * options: sigmaPrior, alphaPrior (see `exactPosterior`), prob of the intervals (0.89).
   * Returns the posterior, table (one row per group), population, health, form, target, notes,
   *   findings, accuracy, and recipe (for `program`).
   */
  function report(data, options = {}) {
    const { digits, fixed, percent, rate } = counts.numbers, { expit, normalQuantile } = counts.quadrature;
    const { prob = 0.89 } = options;
    if (!(prob > 0 && prob < 1)) {
      throw new counts.Refused(`A probability lies strictly between 0 and 1; got ${prob}.`);
    }
    const probs = [(1 - prob) / 2, 0.5, (1 + prob) / 2];
    const { group, successes, trials, called } = data, J = group.length;
    const exact = counts.exactPosterior(successes, trials, { ...options, probs });
    const { sigmaPrior, alphaPrior } = exact;
    const table = group.map((name, j) => {
      const own = exact.own[j], form = own > 0.5 ? "centered" : "non-centered";
      const [low, , high] = exact.rate.quantiles[j], [lowOdds, , highOdds] = exact.quantiles[j];
      return {
        group: name, trials: trials[j], successes: successes[j], share: successes[j] / trials[j],
        mean: exact.rate.mean[j], sd: exact.rate.sd[j], low, high,
        log_odds: exact.mean[j], log_odds_sd: exact.sd[j], log_odds_low: lowOdds, log_odds_high: highOdds,
        own, shrinkage: 1 - own, form, reason: reason(trials[j], own, form),
      };
    });

    function reason(n, own, form) {
      if (n === 0) return `without trials, the others say all that is known of it: ${form}`;
      return own > 0.5 ? `its own counts say ${percent(own)} of what is known of it, more than the others: ${form}`
        : `its own counts say ${percent(own)} of what is known of it, the others the rest: ${form}`;
    }

    const row = (what, prior) => ({
      mean: what.mean, sd: what.sd, low: what.quantiles[0], median: what.quantiles[1], high: what.quantiles[2],
      priorLow: prior[0], priorMedian: prior[1], priorHigh: prior[2],
    });
    const meanPrior = probs.map((q) => alphaPrior.mean + alphaPrior.sd * normalQuantile(q));
    const population = {
      alpha_bar: row(exact.alphaBar, meanPrior),
      p_bar: row(exact.pBar, meanPrior.map(expit)),
      sigma: row(exact.sigma, probs.map(sigmaPrior.quantile)),
    };

    // how well the two plain forms are expected to sample
    const [low, high] = ENDS.map(exact.sigmaQuantile), atLow = exact.ownAt(low), atHigh = exact.ownAt(high);
    let funnel = 0, squeeze = 0;
    for (let j = 0; j < J; j++) {
      funnel = Math.max(funnel, (high / low) * Math.sqrt((1 - atHigh[j]) / (1 - atLow[j])));
      squeeze = Math.max(squeeze, Math.sqrt((1 - atLow[j]) / (1 - atHigh[j])));
    }
    const known = sum(Array.from(exact.own)) / J, trouble = {};
    const span = `between sigma = ${digits(low)} and ${digits(high)}, the ends of its posterior`;
    if (funnel > LIMIT) {
      trouble.centered = `${span}, the width of a group's effect changes by a factor of ${digits(funnel)}, a ` +
        "funnel that one step size does not fit; expect divergences, and small values of sigma that are never " +
        "reached";
    } else if (known < 1 - KNOWN) {
      trouble.centered = `on average a group's own counts say ${percent(known)} of what is known of it, so the ` +
        "effects hang together with their mean; expect few effective draws";
    }
    if (squeeze > LIMIT) {
      trouble["non-centered"] = `${span}, the width of a standardised effect changes by a factor of ` +
        `${digits(squeeze)}, because the counts hold the effect itself in place; expect divergences, or few ` +
        "effective draws";
    } else if (known > KNOWN) {
      trouble["non-centered"] = `on average a group's own counts say ${percent(known)} of what is known of it, ` +
        "so the standardised effects hang together with mean and spread; expect few effective draws";
    }
    const health = { funnel, squeeze, own: known, trouble };
    let form = "mixed";
    if (funnel > LIMIT) form = "non-centered";
    else if (exact.own.every((w) => w > KNOWN) && !("centered" in trouble)) form = "centered";
    else if (exact.own.every((w) => w < 1 - KNOWN) && !("non-centered" in trouble)) form = "non-centered";
    const target = form in trouble ? 0.95 : 0.9;

    const notes = [...data.notes], none = trials.filter((n) => n === 0).length;
    if (J === 1) {
      notes.push("One group cannot say how much groups differ: sigma is what its prior says, but for the " +
        "little that the priors tell of the mean.");
    } else if (J < 5) {
      notes.push(`${J} groups say little of how much groups differ; the answer leans on sigma's prior.`);
    }
    if (none) notes.push(`${groupsOf(none)} without trials: their rates are those of a new group.`);

    function spread() {
      const { low, median, high, priorLow, priorHigh } = population.sigma;
      const narrower = (high - low) / (priorHigh - priorLow);
      const alike = narrower > 0.8 && low < sigmaPrior.quantile(0.2); // neither narrower nor elsewhere
      return `The groups' log odds differ by an sd (sigma) of ${digits(median)}, with an ${percent(prob)} ` +
        `interval from ${digits(low)} to ${digits(high)}; before the counts, under ${priorName(sigmaPrior)}, it ` +
        `went from ${digits(priorLow)} to ${digits(priorHigh)}. That is ${percent(narrower)} of the prior's ` +
        `width${alike ? ": it is the prior that speaks." : "."}`;
    }

    function typical() {
      const { mean, low, high } = population.p_bar, sigma = population.sigma.median;
      const text = `A typical group has a rate of ${rate(mean)} (${rate(low)} to ${rate(high)})`;
      if (J < 10) return `${text}.`;
      const centre = population.alpha_bar.mean;
      return `${text}, and two thirds of groups have rates between about ${rate(expit(centre - sigma))} and ` +
        `${rate(expit(centre + sigma))}.`;
    }

    const nameOf = (one) => `${called.group} ${one.group}`;
    const ofOne = (one) =>
      `${nameOf(one)}, with ${one.successes} of ${one.trials}: its own counts say ${percent(one.own)} of what ` +
      `is known of it. It goes from ${rate(one.share)} to ${rate(one.mean)} (${rate(one.low)} to ` +
      `${rate(one.high)}).`;

    function shrunk() {
      const seen = table.filter((one) => one.trials > 0);
      const best = (value) => seen.reduce((a, b) => (value(b) > value(a) ? b : a));
      const least = best((one) => -one.own), most = best((one) => one.own);
      if (seen.length === 1) return [ofOne(most)];
      const moved = (one) => Math.abs(one.mean - one.share), far = best(moved);
      const all = seen.map(moved).sort((a, b) => a - b), half = all.length >> 1;
      const median = all.length % 2 ? all[half] : (all[half - 1] + all[half]) / 2;
      return [`Own counts say least of ${ofOne(least)}`, `They say most of ${ofOne(most)}`,
        `The others move ${nameOf(far)} furthest, from ${rate(far.share)} to ${rate(far.mean)}; half of the ` +
        `groups move by less than ${digits(100 * median, 2)} percentage points.`];
    }

    function forms() {
      const count = table.filter((one) => one.form === "centered").length;
      const text = `The centered form suits ${count} of ${J} groups, whose own counts say more than half of ` +
        `what is known of them, and the non-centered form ${J - count}.`;
      if (form === "mixed") {
        return `${text} The mixed form, which takes each group as far as its counts go, suits them all.`;
      }
      if (funnel > LIMIT) {
        return `${text} Since the spread may be small, the non-centered form is safer for them all` +
          `${target > 0.9 ? `, with a target of ${target}` : ""}.`;
      }
      return `${text} All are so far on one side that the ${form} form serves for all.`;
    }

    const expected = Object.entries(trouble).map(([name, why]) => `Trouble is expected of the ${name} form: ${why}.`);
    if (!expected.length) {
      expected.push("No trouble is expected: either form, centered or non-centered, should sample well.");
    }
    const findings = [spread(), typical(), ...shrunk(), forms(), ...expected];
    const [mantissa, power] = exact.error.toExponential(0).split("e-");
    const normal = `Normal(${counts.numbers.general(alphaPrior.mean, 6)}, ${counts.numbers.general(alphaPrior.sd, 6)})`;
    const accuracy = `Exact to ${mantissa}e-${(power ?? "0").padStart(2, "0")} posterior sds, by quadrature; ` +
      `priors ${normal} on the mean and ${priorName(sigmaPrior)} on sigma.`;
    const title = `${data.file ? `${data.file}: ` : ""}${sum(successes)} of ${sum(trials)} in ${groupsOf(J)}`;
    const recipe = { counts: data, sigmaPrior, alphaPrior, form, target, weights: exact.own, spread: spreadOf() };

    /** Spread from which a program computes weights that are these on average. */
    function spreadOf() {
      const pooled = sum(successes) / sum(trials);
      const information = trials.map((n, j) => {
        const share = (successes[j] + pooled) / (n + 1);
        return n * share * (1 - share);
      });
      const excess = (at) => sum(information.map((i) => i / (i + Math.exp(-2 * at)))) / J - known;
      let [low, high] = [-12, 12];
      if (!(excess(low) < 0 && excess(high) > 0)) return 1;
      for (let k = 0; k < 60; k++) {
        const middle = (low + high) / 2;
        if (excess(middle) < 0) low = middle;
        else high = middle;
      }
      return Math.exp((low + high) / 2);
    }

    /** Densities of sigma in prior and posterior, where either has mass. */
    function sigmaCurve(points = 241) {
      const [low, high] = [0.001, 0.999].map(exact.sigmaQuantile);
      const wide = Math.max(sigmaPrior.quantile(0.9), high), spike = high - low < 0.1 * wide;
      const from = spike ? Math.max(low - (high - low), 0) : 0, to = spike ? high + (high - low) : wide;
      return Array.from({ length: points }, (_, k) => {
        const sigma = from + ((to - from) * (spike ? k / (points - 1) : (k + 1) / points));
        return { sigma, prior: exact.priorDensity(sigma), posterior: exact.sigmaDensity(sigma) };
      });
    }

    return {
      counts: data, exact, table, population, health, form, target, notes, findings, accuracy, title, recipe,
      sigmaCurve, prob,
    };
  }

  // ---------------------------------------------------------------------------------------------
  // Files

  const COLUMNS = [
    "trials", "successes", "share", "mean", "sd", "low", "high", "log_odds", "log_odds_sd", "log_odds_low",
    "log_odds_high", "own", "shrinkage", "form",
  ];
  const cell = (value) => {
    if (typeof value === "number") {
      return Number.isFinite(value) ? String(Number(value.toPrecision(12))) : "";
    }
    return /[",\r\n]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  };
  const lines = (rows) => rows.map((row) => `${row.map(cell).join(",")}\n`).join("");

  /** Results as CSV, one row per group; missing shares are empty. */
  const resultsCsv = (made) =>
    lines([[made.counts.called.group, ...COLUMNS],
      ...made.table.map((row) => [row.group, ...COLUMNS.map((name) => row[name])])]);

  /** Mean and spread of all groups as CSV, with their priors. */
  const populationCsv = (made) =>
    lines([["parameter", "mean", "sd", "low", "median", "high", "prior low", "prior median", "prior high"],
      ...Object.entries(made.population).map(([name, row]) => [name, ...Object.values(row)])]);

  /** The counts alone as CSV: what a program reads that has more groups than stand in it. */
  const countsCsv = ({ group, successes, trials }) =>
    lines([["group", "successes", "trials"], ...group.map((name, j) => [name, successes[j], trials[j]])]);

  Object.assign(counts, { countsCsv, populationCsv, priorName, report, resultsCsv });
  if (typeof module === "object") module.exports = explorer;
})((globalThis.fieldguideExplorer ??= {}));
