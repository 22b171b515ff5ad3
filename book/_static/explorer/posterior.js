// Varying-intercept binomial-logit posterior: log density and gradient in the sampler's coordinates.
//
//   y_j ~ Binomial(n_j, logit^-1 alpha_j), x_j ~ N(a_j alpha_bar, sigma^b_j),
//   alpha_j = alpha_bar + sigma^(1 - b_j) (x_j - a_j alpha_bar), alpha_bar ~ Normal, sigma ~ its prior.
//
// Coordinates q = [alpha_bar, log sigma, x_1, ..., x_J]. Forms, as (a, b): centered (1, 1), deviation
// (0, 1), non-centered (0, 0), partial (w, w) (Gorinova, Moore and Hoffman 2020, ICML, section 4.1).
"use strict";
((explorer) => {
  const HALF_LOG_TWO_PI = 0.5 * Math.log(2 * Math.PI);
  const FORMS = { centered: [1, 1], deviation: [0, 1], "non-centered": [0, 0] };
  const FAMILIES = ["exponential", "half-normal", "half-cauchy", "half-student-t"];

  const softplus = (x) => (x > 0 ? x : 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const expit = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

  /** Logarithm of the gamma function, x > 0 (Stirling's series from 12 on). */
  function logGamma(x) {
    let product = 1;
    for (; x < 12; x++) product *= x;
    const r = 1 / (x * x);
    const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / x;
    return (x - 0.5) * Math.log(x) - x + HALF_LOG_TWO_PI + series - Math.log(product);
  }

  const logChoose = (n, y) => logGamma(n + 1) - logGamma(y + 1) - logGamma(n - y + 1);

  /** Log density of log sigma (Jacobian included) and its derivative; {family, scale, df}. */
  function sigmaPrior(prior, logSigma) {
    const { family, scale, df = 1 } = prior;
    const r = Math.exp(logSigma) / scale;
    const base = logSigma - Math.log(scale);
    if (family === "exponential") return [base - r, 1 - r];
    if (family === "half-normal") return [base + Math.LN2 - HALF_LOG_TWO_PI - 0.5 * r * r, 1 - r * r];
    const nu = family === "half-cauchy" ? 1 : df;
    const constant = logGamma((nu + 1) / 2) - logGamma(nu / 2) - 0.5 * Math.log(nu * Math.PI);
    const tail = 0.5 * (nu + 1) * Math.log1p((r * r) / nu);
    return [base + Math.LN2 + constant - tail, 1 - ((nu + 1) * r * r) / (nu + r * r)];
  }

  function weightsOf({ form, weight }, count) {
    if ((form === undefined) === (weight === undefined)) throw new Error("Give a form or a weight.");
    if (form !== undefined && !(form in FORMS)) {
      throw new Error(`Unknown form ${form}; use one of ${Object.keys(FORMS).join(", ")}.`);
    }
    const [a, b] = form === undefined ? [weight, weight] : FORMS[form];
    const spread = (w) => (Array.isArray(w) ? w.map(Number) : new Array(count).fill(Number(w)));
    const both = [spread(a), spread(b)];
    if (both.some((w) => w.length !== count || !w.every((v) => v >= 0 && v <= 1))) {
      throw new Error("Weights lie between 0 and 1, one for all districts or one for each.");
    }
    return both;
  }

  function checkCounts(successes, trials) {
    if (successes.length === 0 || successes.length !== trials.length) {
      throw new Error("Successes and trials need one entry per district.");
    }
    successes.forEach((y, j) => {
      const n = trials[j];
      if (!(Number.isInteger(y) && Number.isInteger(n) && y >= 0 && y <= n)) {
        throw new Error(`District ${j + 1} needs whole counts, 0 <= successes <= trials, not ${y} of ${n}.`);
      }
    });
  }

  function checkPriors(sigma, alpha) {
    const heavy = sigma.family === "half-student-t";
    if (!FAMILIES.includes(sigma.family) || !(sigma.scale > 0) || (heavy && !(sigma.df > 0))) {
      throw new Error(`The prior of sigma is one of ${FAMILIES.join(", ")}, with a positive scale (and df).`);
    }
    if (!Number.isFinite(alpha.mean) || !(alpha.sd > 0)) {
      throw new Error("The prior of alpha_bar needs a mean and a positive sd.");
    }
  }

  /**
   * Describe a posterior as a plain object.
   * @param {{successes: number[], trials: number[], form?: string, weight?: number|number[],
   *   sigmaPrior?: {family: string, scale: number, df?: number},
   *   alphaPrior?: {mean: number, sd: number}}} settings
   */
  function posterior(settings) {
    const { successes, trials } = settings;
    checkCounts(successes, trials);
    const prior = settings.sigmaPrior ?? { family: "exponential", scale: 1 };
    const alphaPrior = settings.alphaPrior ?? { mean: 0, sd: 1.5 };
    checkPriors(prior, alphaPrior);
    const [location, power] = weightsOf(settings, successes.length);
    const constant =
      successes.reduce((sum, y, j) => sum + logChoose(trials[j], y) - HALF_LOG_TWO_PI, 0) -
      HALF_LOG_TWO_PI -
      Math.log(alphaPrior.sd);
    return {
      dimension: 2 + successes.length,
      successes: [...successes],
      trials: [...trials],
      location,
      power,
      sigmaPrior: { ...prior },
      alphaPrior: { ...alphaPrior },
      constant,
    };
  }

  /** Log density at q, constants and Jacobians included; the gradient is written into `gradient`. */
  function logDensity(model, q, gradient) {
    const { successes, trials, location, power, alphaPrior } = model;
    const mean = q[0];
    const logSigma = q[1];
    const away = (mean - alphaPrior.mean) / alphaPrior.sd;
    const [prior, slope] = sigmaPrior(model.sigmaPrior, logSigma);
    let value = model.constant + prior - 0.5 * away * away;
    let byMean = -away / alphaPrior.sd;
    let bySigma = slope;
    for (let j = 0; j < successes.length; j++) {
      const a = location[j];
      const b = power[j];
      const r = q[j + 2] - a * mean;
      const precision = b === 0 ? 1 : Math.exp(-2 * b * logSigma);
      const scale = b === 1 ? 1 : Math.exp((1 - b) * logSigma);
      const alpha = mean + scale * r;
      const e = Math.exp(-Math.abs(alpha));
      const p = alpha >= 0 ? 1 / (1 + e) : e / (1 + e);
      const plus = (alpha > 0 ? alpha : 0) + Math.log1p(e);
      const g = successes[j] - trials[j] * p;
      value += successes[j] * alpha - trials[j] * plus - 0.5 * precision * r * r - b * logSigma;
      gradient[j + 2] = g * scale - precision * r;
      byMean += a * precision * r + g * (1 - a * scale);
      bySigma += b * (precision * r * r - 1) + g * (1 - b) * scale * r;
    }
    gradient[0] = byMean;
    gradient[1] = bySigma;
    return value;
  }

  /** The districts' effects at q. */
  function effects(model, q) {
    return model.location.map(
      (a, j) => q[0] + Math.exp((1 - model.power[j]) * q[1]) * (q[j + 2] - a * q[0]),
    );
  }

  /** Coordinates of a point given by alpha_bar, log sigma and effects: the inverse of `effects`. */
  function coordinates(model, alphaBar, logSigma, alpha) {
    const x = model.location.map(
      (a, j) => a * alphaBar + Math.exp((model.power[j] - 1) * logSigma) * (alpha[j] - alphaBar),
    );
    return [alphaBar, logSigma, ...x];
  }

  Object.assign(explorer, {
    FORMS, FAMILIES, posterior, logDensity, effects, coordinates, sigmaPrior, checkCounts, checkPriors,
    softplus, expit, logGamma,
  });
})((globalThis.fieldguideExplorer ??= {}));
