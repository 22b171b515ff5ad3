/* Exact posterior of the varying-intercept binomial-logit model, by quadrature.
 *
 *   y_j ~ Binomial(n_j, logit^-1 alpha_j),  alpha_j ~ Normal(alpha_bar, sigma),
 *   alpha_bar ~ Normal(m, s),  sigma ~ Exponential, HalfNormal, HalfStudentT or HalfCauchy.
 *
 * The method is that of fieldguide.reference: given (alpha_bar, sigma) the groups are independent, and
 * every integral is a trapezoidal sum after x = c + w B sinh(t / B) (Trefethen and Weideman 2014, SIAM
 * Review 56, Theorem 5.1). Distribution functions are sums of sine integrals over the same nodes (Haber
 * 1993, Numerische Mathematik 65, equation 1.4). Given one sigma, a group's marginal has nodes of its
 * own, and the marginals given all sigmas are mixed. Errors are estimated by what every other node
 * misses, squared.
 */
"use strict";
((explorer) => {
  const counts = (explorer.counts ??= {});

  const LOG_TWO_PI = Math.log(2 * Math.PI);
  const B_INNER = 2.5, B_MEAN = 3, B_SPREAD = 2, B_EFFECT = 2.5;
  const MANY = 1e6; // trials above which rounding is kept out of logarithms
  const FAR = 300; // logits beyond which an exponential is replaced by its logarithm
  const TOLERANCE = 2e-5; // of moments, in posterior sds
  const QUANTILE_TOLERANCE = 3e-5; // of quantiles, in posterior sds
  const END = 1e-8; // probability at the ends of a grid that is not worth going further for
  const DEPTH = 30; // log density below the top at which a grid ends
  const NARROW = 0.8; // scales of alpha_bar below which sigma is narrow beside its nodes
  const MOST_GROUPS = 500;
  const MOST_TRIALS = 1e9;
  const MOST_PAIRS = 6e6; // nodes times groups

  class Refused extends Error {
    constructor(message) {
      super(message);
      this.name = "Refused";
    }
  }

  const { abs, asinh, ceil, cosh, exp, expm1, log, log1p, max, min, sinh, sqrt, PI } = Math;
  const expit = (x) => (x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)));
  const grid = (low, high, count) =>
    Float64Array.from({ length: count + 1 }, (_, k) => low + ((high - low) * k) / count);

  function logSumExp(values) {
    let top = -Infinity, sum = 0;
    for (const v of values) if (v > top) top = v;
    if (top === -Infinity) return top;
    for (const v of values) sum += exp(v - top);
    return top + log(sum);
  }

  // ---------------------------------------------------------------------------------------------
  // Priors on sigma

  function stirlingRest(k) { // log factorial of k less Stirling's formula
    if (k < 25) {
      let factorial = 0;
      for (let i = 2; i <= k; i++) factorial += log(i);
      return factorial - (k + 0.5) * log(k) + k - 0.5 * LOG_TWO_PI;
    }
    const inverse = 1 / (k * k);
    return (1 / 12 - (1 / 360 - (1 / 1260 - inverse / 1680) * inverse) * inverse) / k;
  }

  function logGamma(x) {
    let shift = 0;
    for (; x < 26; x++) shift -= log(x);
    return shift + (x - 0.5) * log(x) - x + 0.5 * LOG_TWO_PI + stirlingRest(x);
  }

  const FAMILIES = ["exponential", "half-normal", "half-cauchy", "half-student-t"];

  /** Prior on sigma from {family, scale, df}; an exponential's scale is its mean. */
  function sigmaPrior({ family, scale = 1, df = family === "half-cauchy" ? 1 : undefined }) {
    if (!FAMILIES.includes(family)) {
      throw new Refused(`There is no prior "${family}" on sigma; choose one of ${FAMILIES.join(", ")}.`);
    }
    const numbers = family === "half-student-t" ? { scale, df } : { scale };
    for (const [key, value] of Object.entries(numbers)) {
      if (!(Number.isFinite(value) && value >= 1e-4 && value <= 1e4)) {
        throw new Refused(`The ${key} of sigma's prior is ${value}; give a number from 0.0001 to 10000.`);
      }
    }
    let logpdf, exponent = Infinity;
    if (family === "exponential") logpdf = (x) => -log(scale) - x / scale;
    else if (family === "half-normal") {
      const front = 0.5 * log(2 / PI) - log(scale);
      logpdf = (x) => front - 0.5 * (x / scale) ** 2;
    } else {
      const front = Math.LN2 + logGamma((df + 1) / 2) - logGamma(df / 2) - 0.5 * log(df * PI) - log(scale);
      exponent = df + 1;
      logpdf = (x) => front - ((df + 1) / 2) * log1p((x / scale) ** 2 / df);
    }
    // F(x) in u with v = log x - exp(u - exp(-u)), by the trapezoidal rule
    const cdf = (x) => {
      let sum = 0;
      for (let u = -5; u <= 5.001; u += 0.05) {
        const s = exp(u - exp(-u)), at = x * exp(-s);
        if (at > 0) sum += exp(logpdf(at)) * at * s * (1 + exp(-u));
      }
      return 0.05 * sum;
    };
    const quantile = (q) => {
      if (family === "exponential") return -scale * log1p(-q);
      if (family === "half-cauchy") return scale * Math.tan(0.5 * PI * q);
      let low = log(scale) - 40, high = log(scale) + 40;
      for (let k = 0; k < 80; k++) {
        const middle = 0.5 * (low + high);
        if (cdf(exp(middle)) < q) low = middle;
        else high = middle;
      }
      return exp(0.5 * (low + high));
    };
    return { family, ...numbers, logpdf, quantile, exponent, light: exponent === Infinity };
  }

  /** Quantile of the standard normal distribution. */
  const standard = sigmaPrior({ family: "half-normal", scale: 1 });
  const normalQuantile = (q) =>
    q === 0.5 ? 0 : q < 0.5 ? -standard.quantile(1 - 2 * q) : standard.quantile(2 * q - 1);

  // ---------------------------------------------------------------------------------------------
  // One group's effect, integrated out given the mean and the spread of all

  const rules = new Map();
  function ruleOf(step) {
    if (!rules.has(step)) {
      const half = ceil(6 / step), z = [], weight = [];
      for (let k = -half; k <= half; k++) {
        z.push(B_INNER * sinh((k * step) / B_INNER));
        weight.push(step * cosh((k * step) / B_INNER));
      }
      rules.set(step, { z: Float64Array.from(z), weight: Float64Array.from(weight), count: ceil(24 / step) });
    }
    return rules.get(step);
  }

  const ratio = { log: 0, p: 0, q: 0 };

  /** Log likelihood at a distance x from where the probability is p, less its value there. */
  function logRatio(x, y, n, p, q) {
    const flip = p > 0.5, rare = flip ? q : p, common = flip ? p : q;
    let z = flip ? -x : x;
    const excess = max(z - FAR, 0);
    z -= excess;
    const precise = n > MANY, e = precise ? expm1(z) : exp(z) - 1, change = rare * e;
    ratio.log = (flip ? n - y : y) * z - n * (precise ? log1p(change) : log(1 + change)) +
      (flip ? -y : y - n) * excess;
    const few = (rare * (1 + e)) / (1 + change), most = (excess ? common * exp(-excess) : common) / (1 + change);
    ratio.p = flip ? most : few;
    ratio.q = flip ? few : most;
    return ratio.log;
  }

  const found = new Float64Array(5); // log integral, shift, variance, mean and variance of the rate

  /** Integrate one group's effect out; the log integral is relative to the likelihood at (p, q). */
  function integrateEffect(a, s, unit, rule) {
    const { y, n, p, q, centre, peak } = unit, middle = centre - a;
    if (s === 0) {
      found[0] = logRatio(-middle, y, n, p, q);
      found[1] = found[2] = found[4] = 0;
      found[3] = expit(a);
      return;
    }
    const information = n * p * q, precision = 1 / (s * s);
    let low = (y - n) / precision, high = y / precision;
    const room = log(n * s * s), top = peak - a;
    low = max(low, y > 0 ? min(top, 0) : min(-room - a, -1));
    high = min(high, y < n ? max(top, 0) : max(room - a, 1));
    let delta = min(max((middle * information) / (information + precision), low), high);
    let last = Infinity, width = 1, pMode = 0.5, qMode = 0.5;
    for (let k = 0; k < 60; k++) {
      const x = a + delta, e = exp(-abs(x));
      pMode = (x < 0 ? e : 1) / (1 + e);
      qMode = (x < 0 ? 1 : e) / (1 + e);
      const slope = (pMode < 0.5 ? y - n * pMode : n * qMode - (n - y)) - delta * precision;
      width = 1 / sqrt(n * pMode * qMode + precision);
      const move = slope * width * width;
      if (abs(move) < 0.1 * width) break;
      if (slope > 0) low = delta;
      else high = delta;
      let next = delta + move;
      if (next < low || next > high || abs(move) > 0.5 * last) next = 0.5 * (low + high);
      last = abs(next - delta);
      delta = next;
    }
    const wide = (width > 1.5 || (width > 0.5 && min(y, n - y) < 4)) &&
      sqrt(1 + (delta - middle) ** 2) < 5 * width;
    if (wide) integrateWide(middle, s, unit, delta, rule.count);
    else integrateNarrow(middle, s, unit, delta, width, pMode, qMode, rule);
  }

  function integrateNarrow(middle, s, { y, n, p, q }, delta, width, pMode, qMode, rule) {
    const precision = 1 / (s * s), flip = pMode > 0.5, side = flip ? -1 : 1;
    const rare = min(pMode, qMode), k = flip ? n - y : y, precise = n > MANY;
    const slope = width * (k - side * delta * precision), bend = -0.5 * width * width * precision;
    const { z, weight } = rule;
    let total = 0, first = 0, second = 0, change = 0, square = 0;
    for (let i = 0; i < z.length; i++) {
      const at = z[i], x = min(width * at, FAR), e = precise ? expm1(x) : exp(x) - 1;
      const d = rare * e, logOne = precise ? log1p(d) : log(1 + d);
      const f = weight[i] * exp(at * (slope + bend * at) - n * logOne);
      const moved = (f * e) / (1 + d);
      total += f;
      first += f * at;
      second += f * at * at;
      change += moved;
      square += (moved * e) / (1 + d);
    }
    first /= total;
    change /= total;
    found[0] = log((total * width) / s) - 0.5 * LOG_TWO_PI - 0.5 * delta * delta * precision +
      logRatio(delta - middle, y, n, p, q);
    found[1] = delta + side * width * first;
    found[2] = width * width * (second / total - first * first);
    found[3] = pMode + side * pMode * qMode * change;
    found[4] = (pMode * qMode) ** 2 * (square / total - change * change);
  }

  const MOST_NODES = 400;
  const wideF = new Float64Array(MOST_NODES), wideX = new Float64Array(MOST_NODES),
    wideP = new Float64Array(MOST_NODES);

  /** Nodes around the likelihood's logistic step, for integrands wider than it. */
  function integrateWide(middle, s, { y, n, p, q }, delta, count) {
    const offset = delta - middle;
    let left = max(middle, 0) + 8.5 * s, right = max(-middle, 0) + 8.5 * s;
    left = min(left, 40 / y + 10 + max(-offset, 0));
    right = min(right, 40 / (n - y) + 10 + max(offset, 0));
    const low = -asinh(left), high = asinh(right), step = (high - low) / count;
    let top = -Infinity;
    for (let i = 0; i <= count; i++) {
      const x = sinh(low + i * step);
      wideX[i] = middle + x;
      wideF[i] = logRatio(x, y, n, p, q) - 0.5 * ((middle + x) / s) ** 2;
      wideP[i] = ratio.p;
      if (wideF[i] > top) top = wideF[i];
    }
    let total = 0, mean = 0, rate = 0;
    for (let i = 0; i <= count; i++) {
      const x = wideX[i] - middle, f = exp(wideF[i] - top) * sqrt(1 + x * x) * step;
      wideF[i] = f;
      total += f;
      mean += f * wideX[i];
      rate += f * wideP[i];
    }
    mean /= total;
    rate /= total;
    let variance = 0, varianceP = 0;
    for (let i = 0; i <= count; i++) {
      variance += wideF[i] * (wideX[i] - mean) ** 2;
      varianceP += wideF[i] * (wideP[i] - rate) ** 2;
    }
    found[0] = log(total) + top - log(s) - 0.5 * LOG_TWO_PI;
    found[1] = mean;
    found[2] = variance / total;
    found[3] = rate;
    found[4] = varianceP / total;
  }

  // ---------------------------------------------------------------------------------------------
  // The model

  /** Counts and priors, checked; groups with the same counts are one unit. */
  function makeModel(successes, trials, options) {
    if (successes.length !== trials.length || successes.length === 0) {
      throw new Refused(`${successes.length} successes and ${trials.length} trials; give one of each per group.`);
    }
    if (successes.length > MOST_GROUPS) {
      throw new Refused(`${successes.length} groups are more than ${MOST_GROUPS}; take a sample of them.`);
    }
    const units = [], member = new Int32Array(successes.length), known = new Map();
    for (let j = 0; j < successes.length; j++) {
      const y = successes[j], n = trials[j];
      if (!(Number.isInteger(y) && Number.isInteger(n) && 0 <= y && y <= n && n <= MOST_TRIALS)) {
        throw new Refused(`Row ${j + 1}: ${y} successes in ${n} trials; give whole numbers, from 0 to ` +
          "the trials, and at most 1000000000 trials.");
      }
      const key = `${y}/${n}`;
      if (!known.has(key)) {
        known.set(key, units.length);
        const p = (y + 0.5) / (n + 1), q = (n - y + 0.5) / (n + 1);
        const peak = n === 0 ? 0 : log(y) - log(n - y);
        units.push({ y, n, p, q, centre: log(p / q), peak, count: 0 });
      }
      member[j] = known.get(key);
      units[member[j]].count++;
    }
    const { mean = 0, sd = 1.5 } = options.alphaPrior || {};
    if (!(Number.isFinite(mean) && abs(mean) <= 100 && sd >= 1e-3 && sd <= 100)) {
      throw new Refused(`The prior Normal(${mean}, ${sd}) on the mean is none that can be computed; give a ` +
        "mean from -100 to 100 logits and an sd from 0.001 to 100.");
    }
    const prior = sigmaPrior(options.sigmaPrior || { family: "exponential" });
    return { units, member, mean, sd, prior, logConstant: logConstant(units) };
  }

  /** Log probability of the counts where every group is at its reference (p, q). */
  function logConstant(units) {
    let sum = 0;
    for (const { y, n, count } of units) {
      const part = (k) => (k > 0 ? k * log1p(0.5 / k) : 0);
      let one = part(y) + part(n - y) - n * log1p(1 / max(n, 1));
      if (y > 0 && y < n) {
        one += stirlingRest(n) - stirlingRest(y) - stirlingRest(n - y);
        one += 0.5 * (log(n / y / (n - y)) - LOG_TWO_PI);
      }
      sum += count * one;
    }
    return sum;
  }

  function logPriorMean(model, a) {
    return -0.5 * ((a - model.mean) / model.sd) ** 2 - log(model.sd) - 0.5 * LOG_TWO_PI;
  }

  /** Mode and curvature scale of alpha_bar given sigma, and the log weight at the mode. */
  function ridge(model, sigma) {
    const variance = sigma * sigma, rule = ruleOf(0.9), priorPrecision = 1 / model.sd ** 2;
    let precision = priorPrecision, mode = priorPrecision * model.mean;
    for (const u of model.units) {
      if (u.n === 0) continue;
      const one = u.count / (1 / (u.n * u.p * u.q) + variance);
      precision += one;
      mode += one * u.centre;
    }
    mode /= precision;
    let scale = 1 / sqrt(precision), logWeight = 0, reach = 3, before = 0;
    for (let k = 0; k < 30; k++) {
      let slope = -(mode - model.mean) * priorPrecision, bend = 0;
      logWeight = logPriorMean(model, mode) + model.logConstant;
      for (const u of model.units) {
        integrateEffect(mode, sigma, u, rule);
        const [logIntegral, shift, spread, p, spreadP] = found, q = 1 - p, { y, n, count } = u;
        logWeight += count * logIntegral;
        if (n === 0) continue;
        if (variance < 1 / (n * u.p * u.q)) {
          slope += count * (p < 0.5 ? y - n * p : n * q - (n - y));
          bend += count * (n * n * spreadP - n * (p * q - spreadP));
        } else {
          slope += (count * shift) / variance;
          bend += (count * (spread / variance - 1)) / variance;
        }
      }
      const curvature = max(priorPrecision - bend, priorPrecision);
      scale = 1 / sqrt(curvature);
      const move = min(max(slope / curvature, -reach * scale), reach * scale);
      mode += move;
      if (move * before < 0) reach *= 0.5;
      before = move;
      if (k >= 2 && abs(move) < 0.3 * scale) break;
    }
    return { mode, scale, logWeight };
  }

  function interpolate(x, xs, ys) {
    let low = 0, high = xs.length - 1;
    if (x <= xs[0]) return ys[0];
    if (x >= xs[high]) return ys[high];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x) low = middle;
      else high = middle;
    }
    return ys[low] + ((ys[high] - ys[low]) * (x - xs[low])) / (xs[high] - xs[low]);
  }

  /** Where the mass is: the map from t to v = log sigma, alpha_bar's mode and scale along the way. */
  function makePlan(model) {
    const { prior, units } = model;
    let most = 0.1;
    for (const u of units) most = max(most, u.n * u.p * u.q);
    const first = log(min(0.02 / sqrt(most), prior.quantile(0.01)));
    const last = max(min(log(prior.quantile(1 - 1e-4)), 80), first + 4);
    const scan = (v) => ({ v, ...ridge(model, exp(v)) });
    const value = (at) => at.logWeight + log(at.scale) + prior.logpdf(exp(at.v)) + at.v;
    const count = ceil((last - first) / 0.6);
    let points = Array.from(grid(first, last, count), scan);
    const top = (grow) => max(...points.map((at) => value(at) + grow * (at.v - first)));
    for (;;) { // to the right until nothing is left, second moments included
      const end = points[points.length - 1];
      if (!(value(end) + 2 * (end.v - first) > top(2) - DEPTH)) break;
      if (end.v > 80) {
        throw new Refused("The posterior of sigma has a tail too heavy to integrate; use a prior on sigma " +
          "with a lighter tail.");
      }
      for (let k = 1; k <= 3; k++) points.push(scan(end.v + k));
    }
    for (let k = 0; k < 8; k++) { // finer around a peak that the scan only touched
      const density = points.map(value), best = density.indexOf(max(...density));
      const i = min(max(best, 1), points.length - 2);
      if (density[i] - min(density[i - 1], density[i + 1]) < 1) break;
      const v = points.map((at) => at.v);
      for (const at of grid(v[i - 1], v[i + 1], 8)) {
        if (v.every((b) => abs(b - at) > 1e-9)) points.push(scan(at));
      }
      points.sort((b, c) => b.v - c.v);
    }
    // left of the first point the prior alone decides
    const left = [], start = points[0], highest = top(0);
    for (let k = 1; k < 200; k++) {
      const at = { ...start, v: start.v - k };
      left.unshift(at);
      if (value(at) < highest - DEPTH) break;
    }
    const all = [...left, ...points], v = all.map((at) => at.v), density = all.map(value);
    const grown = density.map((d, k) => d + 2 * (v[k] - v[0])), highestGrown = max(...grown);
    const from = max(density.findIndex((d) => d > highest - DEPTH) - 1, 0);
    let to = v.length - 1;
    while (to > 0 && !(grown[to - 1] > highestGrown - DEPTH)) to--;
    const fine = grid(v[from], v[to], 4000), cumulative = new Float64Array(fine.length);
    let sum = 0;
    fine.forEach((at, k) => (cumulative[k] = sum += exp(interpolate(at, v, density) - highest)));
    const [q16, q50, q84] = [0.16, 0.5, 0.84].map((q) => interpolate(q * sum, cumulative, fine));
    const plan = { light: prior.light, median: q50 };
    // under a light tail sigma is proportional to log(1 + exp(x)); otherwise x is v
    plan.x = (at) => {
      if (!plan.light) return at;
      const r = exp(at - plan.median);
      return r + log(-expm1(-r));
    };
    plan.centre = plan.x(q50);
    plan.width = (plan.x(q84) - plan.x(q16)) / 2;
    plan.t = (at) => B_SPREAD * asinh((plan.x(at) - plan.centre) / (plan.width * B_SPREAD));
    plan.v = (t) => { // and log dv/dt
      const x = plan.centre + plan.width * B_SPREAD * sinh(t / B_SPREAD);
      const slope = log(plan.width * cosh(t / B_SPREAD));
      if (!plan.light) return [x, slope];
      const logR = x < -30 ? x : log(x > 30 ? x + log1p(exp(-x)) : log1p(exp(x)));
      return [plan.median + logR, slope - (x > 0 ? log1p(exp(-x)) : log1p(exp(x)) - x) - logR];
    };
    plan.low = plan.t(v[from]);
    plan.high = plan.t(v[to]);
    // steps of the inverse logit are about as wide as 1; nodes spaced by a wide prior would miss them
    const nodes = points.map((at) => at.v);
    const cap = points.map((at) => log(1.5) + 0.5 * log1p(min(exp(at.v), 1) ** 2));
    let excess = 1;
    points.forEach((at, k) => {
      if (value(at) + 2 * (at.v - v[0]) > highestGrown - DEPTH) excess = max(excess, at.scale / exp(cap[k]));
    });
    plan.reach = B_MEAN * asinh(sinh(5 / B_MEAN) * excess);
    const modes = points.map((at) => at.mode), scales = points.map((at, k) => min(log(at.scale), cap[k]));
    plan.ridge = (at) => [interpolate(at, nodes, modes), exp(interpolate(at, nodes, scales))];
    return plan;
  }

  // ---------------------------------------------------------------------------------------------
  // The grid: rows of one sigma each, with nodes of alpha_bar

  /** Nodes of alpha_bar given sigma, and every unit's integrals there; those known before are kept. */
  function makeRow(model, sigma, mode, scale, tA, rule, before) {
    const A = tA.length, U = model.units.length, step = tA[1] - tA[0];
    const row = {
      sigma, mode, scale, tA,
      alphaBar: new Float64Array(A), logMeasure: new Float64Array(A), logDensity: new Float64Array(A),
      inner: Array.from({ length: 5 }, () => new Float64Array(A * U)),
    };
    const from = before ? Math.round((before.tA[0] - tA[0]) / step) : A;
    if (before) {
      for (let i = 0; i < 5; i++) row.inner[i].set(before.inner[i], from * U);
      row.logDensity.set(before.logDensity, from);
    }
    for (let k = 0; k < A; k++) {
      const a = mode + scale * B_MEAN * sinh(tA[k] / B_MEAN);
      row.alphaBar[k] = a;
      row.logMeasure[k] = log(scale * step * cosh(tA[k] / B_MEAN));
      if (k >= from && k < from + before.tA.length) continue;
      let sum = logPriorMean(model, a) + model.logConstant;
      for (let u = 0; u < U; u++) {
        integrateEffect(a, sigma, model.units[u], rule);
        for (let i = 0; i < 5; i++) row.inner[i][k * U + u] = found[i];
        sum += model.units[u].count * found[0];
      }
      row.logDensity[k] = sum;
    }
    row.logLikelihood = logSumExp(row.logDensity.map((d, k) => d + row.logMeasure[k]));
    return row;
  }

  const sameStep = (before, steps) => before && before.steps.every((step, k) => step === steps[k]);

  /** The grid between the plan's ends and reach; rows of one before with the same steps are kept. */
  function makeGrid(model, plan, steps, reach, before) {
    const evenly = (low, high, step) => {
      const first = Math.floor(low / step), count = ceil(high / step) - first;
      return Float64Array.from({ length: count + 1 }, (_, k) => (first + k) * step);
    };
    const t = evenly(plan.low, plan.high, steps[0]), tA = evenly(reach[0], reach[1], steps[1]);
    if (t.length * tA.length * model.units.length > MOST_PAIRS) return null;
    const rule = ruleOf(steps[2]), rows = [], old = sameStep(before, steps) ? before : null;
    const shift = old ? Math.round((old.t[0] - t[0]) / steps[0]) : 0;
    for (let k = 0; k < t.length; k++) {
      const [v, slope] = plan.v(t[k]), [mode, scale] = plan.ridge(v), known = old && old.rows[k - shift];
      const row = makeRow(model, max(exp(v), 1e-100), mode, scale, tA, rule, known);
      row.v = v;
      row.logStep = log(steps[0]) + slope + v; // of the trapezoid in sigma
      rows.push(row);
    }
    return { t, tA, rows, steps };
  }

  /** Weights of all nodes under a prior, and of every other sigma and alpha_bar. */
  function weigh(made, prior) {
    const { rows, tA } = made, A = tA.length;
    const log_ = rows.map((row) => row.logLikelihood + row.logStep + prior.logpdf(row.sigma));
    made.total = logSumExp(log_);
    made.mass = Float64Array.from(log_, (v) => exp(v - made.total));
    made.weight = new Float64Array(rows.length * A);
    rows.forEach((row, r) => {
      for (let k = 0; k < A; k++) {
        made.weight[r * A + k] = exp(log_[r] - made.total + row.logDensity[k] + row.logMeasure[k] -
          row.logLikelihood);
      }
    });
    const whole = made.weight.reduce((b, c) => b + c, 0); // 1, but for rounding
    made.weight = made.weight.map((w) => w / whole);
    const half = (keep) => {
      const out = made.weight.map((w, k) => (keep(Math.floor(k / A), k % A) ? w : 0));
      const sum = out.reduce((b, c) => b + c, 0);
      return { weight: out.map((w) => w / sum), off: abs(2 * sum - 1) };
    };
    made.halves = [half((r) => r % 2 === 0), half((r, k) => k % 2 === 0)];
  }

  /** Means and sds of alpha_bar, its rate, sigma, and of every unit's effect and rate, in one array. */
  function momentsOf(model, made, weight) {
    const { units } = model, U = units.length, A = made.tA.length, size = 3 + 2 * U;
    const mean = new Float64Array(size), sd = new Float64Array(size), own = new Float64Array(U);
    for (const pass of [0, 1]) {
      if (pass) units.forEach((unit, u) => (mean[3 + U + u] += unit.p));
      made.rows.forEach((row, r) => {
        const [, shift, variance, p, varianceP] = row.inner, s2 = 1 / row.sigma ** 2;
        for (let k = 0; k < A; k++) {
          const w = weight[r * A + k], a = row.alphaBar[k];
          if (!(w > 1e-18)) continue;
          const values = [a, expit(a), row.sigma];
          for (let i = 0; i < 3; i++) {
            if (pass) sd[i] += w * (values[i] - mean[i]) ** 2;
            else mean[i] += w * values[i];
          }
          if (w < 1e-13) continue;
          for (let u = 0, at = k * U; u < U; u++, at++) {
            const effect = a + shift[at];
            if (pass) {
              sd[3 + u] += w * (variance[at] + (effect - mean[3 + u]) ** 2);
              sd[3 + U + u] += w * (varianceP[at] + (p[at] - mean[3 + U + u]) ** 2);
              own[u] += w * variance[at] * s2;
            } else {
              mean[3 + u] += w * effect;
              mean[3 + U + u] += w * (p[at] - units[u].p); // from a reference, so that digits stay
            }
          }
        }
      });
    }
    return { mean, sd: sd.map(sqrt), own: own.map((v) => min(max(1 - v, 0), 1)) };
  }

  function distance(one, other) {
    let worst = 0;
    for (let i = 0; i < one.mean.length; i++) {
      const far = max(abs(one.mean[i] - other.mean[i]), abs(one.sd[i] - other.sd[i])) / one.sd[i];
      if (!(far <= worst)) worst = far;
    }
    return worst;
  }

  /** Estimated error of the inner integrals, from five nodes done again more finely. */
  function innerError(model, made) {
    const A = made.tA.length, U = model.units.length, fine = ruleOf(made.steps[2] / 1.5);
    let best = 0;
    made.weight.forEach((w, k) => (best = w > made.weight[best] ? k : best));
    const r0 = Math.floor(best / A), k0 = best % A, limit = (v, top) => min(max(v, 0), top);
    let worst = 0, low = Infinity, high = -Infinity;
    for (const [i, j] of [[0, 0], [-3, 0], [3, 0], [0, -3], [0, 3]]) {
      const row = made.rows[limit(r0 + i, made.rows.length - 1)], k = limit(k0 + j, A - 1);
      let product = 0;
      for (let u = 0; u < U; u++) {
        integrateEffect(row.alphaBar[k], row.sigma, model.units[u], fine);
        const at = k * U + u;
        worst = max(worst, abs(row.inner[1][at] - found[1]) / sqrt(found[2]),
          abs(row.inner[2][at] / found[2] - 1), abs(row.inner[4][at] / found[4] - 1),
          abs(row.inner[3][at] - found[3]) / sqrt(found[4]));
        product += model.units[u].count * (found[0] - row.inner[0][at]);
      }
      low = min(low, product);
      high = max(high, product);
    }
    return max(worst, high - low, 0.1 * max(abs(low), abs(high)));
  }

  function converge(model, plan, steps) {
    const reach = [-plan.reach, plan.reach];
    let error = Infinity, made = null;
    for (let round = 0; round < 16; round++) {
      made = makeGrid(model, plan, steps, reach, made);
      if (!made) break;
      weigh(made, model.prior);
      const A = made.tA.length, R = made.rows.length;
      let ends = [0, 0];
      for (let r = 0; r < R; r++) {
        ends[0] += made.weight[r * A];
        ends[1] += made.weight[r * A + A - 1];
      }
      if (max(...ends) > END) {
        if (ends[0] > END) reach[0] -= 1;
        if (ends[1] > END) reach[1] += 1;
        continue;
      }
      ends = [made.mass[0], made.mass[R - 1]];
      if (max(...ends) > END) {
        if (ends[0] > END) plan.low -= 1;
        if (ends[1] > END) plan.high += 1;
        continue;
      }
      const moments = momentsOf(model, made, made.weight);
      const errors = made.halves.map((h) =>
        max(distance(moments, momentsOf(model, made, h.weight)), h.off) ** 2);
      errors.push(innerError(model, made));
      error = 4 * errors.reduce((b, c) => b + c, 0);
      if (error < TOLERANCE) return { made, moments, error };
      const aim = TOLERANCE / 16;
      steps = steps.map((step, k) => errors[k] > aim
        ? step * min(max(log(min(errors[k], 0.5)) / log(aim), 0.4), 0.85) : step);
    }
    throw new Refused("The grid over the groups' mean and spread did not converge (error estimate " +
      `${error.toExponential(0)} posterior sd); use less extreme priors.`);
  }

  // ---------------------------------------------------------------------------------------------
  // Distribution functions

  const CELLS = 64, LAST = 160; // of the table of 1/2 + Si(pi u) / pi, per unit of u and in all
  const sinc = (u) => (abs(u) < 1e-9 ? 1 : Math.sin(PI * u) / (PI * u));
  let table = null;
  function rising(u) { // 1/2 + Si(pi u) / pi, by cubic Hermite interpolation
    if (!table) {
      table = { value: new Float64Array(CELLS * LAST + 2), slope: new Float64Array(CELLS * LAST + 2) };
      const gauss = [[-sqrt(0.6), 5 / 18], [0, 8 / 18], [sqrt(0.6), 5 / 18]];
      let sum = 0.5;
      for (let k = 0; k < table.value.length; k++) {
        table.value[k] = sum;
        table.slope[k] = sinc(k / CELLS) / CELLS;
        for (const [x, w] of gauss) sum += (w * sinc((k + 0.5 + 0.5 * x) / CELLS)) / CELLS;
      }
    }
    const at = abs(u) * CELLS;
    if (at >= CELLS * LAST) return u > 0 ? 1 : 0;
    const k = at | 0, f = at - k, g = 1 - f, v = table.value, d = table.slope;
    const value = v[k] * g * g * (1 + 2 * f) + v[k + 1] * f * f * (3 - 2 * f) + f * g * (g * d[k] - f * d[k + 1]);
    return u > 0 ? value : 1 - value;
  }

  /** Distribution function and density, in u, of masses at 0, 1, 2, ...; of every other where asked. */
  function distribution(mass, from, count, u, every, out) {
    let value = 0, slope = 0;
    for (let i = 0; i < count; i += every) {
      value += mass[from + i] * rising((u - i) / every);
      if (every === 1) slope += mass[from + i] * sinc(u - i);
    }
    out[0] = value * every;
    out[1] = slope;
  }
  const pair = new Float64Array(2);

  /** Point where an increasing function is q, which it brackets; of(x) returns [value, slope, ...]. */
  function solve(of, q, low, high, start, exact) {
    let x = min(max(start, low), high);
    for (let k = 0; k < 80; k++) {
      const [value, slope] = of(x), off = value - q;
      if (off > 0) high = x;
      else low = x;
      let next = x - off / slope;
      if (!(next > low && next < high)) next = 0.5 * (low + high);
      if (abs(next - x) < exact) return next;
      x = next;
    }
    return x;
  }

  const FINE = 4; // nodes of sigma's marginal per row

  /** Masses of sigma on nodes between the rows, by interpolating the rows' log likelihoods. */
  function sigmaMasses(made, plan, prior, every) {
    const rows = made.rows.filter((_, r) => r % every === 0).map((row) => row.logLikelihood);
    const { t } = made, step = (t[1] - t[0]) / FINE, count = FINE * (t.length - 1) + 1;
    const mass = new Float64Array(count);
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const [v, slope] = plan.v(t[0] + i * step);
      mass[i] = step * exp(lagrange(rows, i / FINE / every) + prior.logpdf(exp(v)) + v + slope - made.total);
      sum += mass[i];
    }
    return mass.map((m) => m / sum);
  }

  /** Function from a probability to sigma's quantile and its error in sds. */
  function sigmaQuantile(made, plan, prior, sd) {
    const [mass, other] = [1, 2].map((every) => sigmaMasses(made, plan, prior, every));
    const count = mass.length, step = (made.t[1] - made.t[0]) / FINE;
    const of = (x) => (distribution(mass, 0, count, x, 1, pair), pair);
    return (q) => {
      const u = solve(of, q, 0, count - 1, (count - 1) / 2, 1e-9);
      const [value, slope] = Array.from(of(u)), [v, logSlope] = plan.v(made.t[0] + u * step);
      distribution(mass, 0, count, u, 2, pair);
      let off = abs(pair[0] - value) ** 1.5;
      distribution(other, 0, count, u, 1, pair);
      off += abs(pair[0] - value) / 40;
      return { value: exp(v), error: (off / slope) * step * exp(v + logSlope) / sd };
    };
  }

  /** Quantiles of alpha_bar, or of any effect given the rows' own nodes. */
  function mixtureQuantiles(parts, mean, sd, probs) {
    // parts: {share, centre, scale, B, first, step, mass, count, even}
    let low = Infinity, high = -Infinity;
    for (const part of parts) {
      low = min(low, part.centre + part.scale * part.B * sinh(part.first / part.B));
      high = max(high, part.centre +
        part.scale * part.B * sinh((part.first + part.step * (part.count - 1)) / part.B));
    }
    const sums = new Float64Array(4); // all; density; what every other node misses; every other row
    const of = (x, thorough) => {
      sums.fill(0);
      for (const part of parts) {
        const z = (x - part.centre) / part.scale, t = part.B * asinh(z / part.B);
        const u = (t - part.first) / part.step;
        if (u <= 0) continue;
        if (u >= part.count - 1) {
          sums[0] += part.share;
          if (part.even) sums[3] += 2 * part.share;
          continue;
        }
        distribution(part.mass, 0, part.count, u, 1, pair);
        const value = part.share * pair[0];
        sums[0] += value;
        sums[1] += (part.share * pair[1]) / (part.step * part.scale * sqrt(1 + (z / part.B) ** 2));
        if (part.even) sums[3] += 2 * value;
        if (thorough) { // the error of every other node swings with u: at u and half a turn on
          distribution(part.mass, 0, part.count, u, 2, pair);
          let off = abs(pair[0] - value / part.share);
          for (const by of [-0.5, 0.5]) {
            distribution(part.mass, 0, part.count, u + by, 1, pair);
            const there = pair[0];
            distribution(part.mass, 0, part.count, u + by, 2, pair);
            off = max(off, abs(pair[0] - there));
          }
          sums[2] += part.share * off ** 1.8;
        }
      }
      return sums;
    };
    let error = 0;
    const values = probs.map((q) => {
      const x = solve((at) => of(at, false), q, low, high, mean + sd * 1.6 * (2 * q - 1), 1e-9 * sd);
      const [all, density, missed, rows] = of(x, true);
      const off = missed + (parts.length > 1 ? abs(rows - all) ** 1.7 : 0);
      error = max(error, off / density / sd);
      return x;
    });
    return { values, error };
  }

  /** Rows that count. */
  function liveRows(made) {
    const out = [];
    made.mass.forEach((w, r) => w > 1e-8 && out.push(r));
    return out;
  }

  function alphaBarQuantiles(made, moments, probs) {
    const A = made.tA.length, step = made.tA[1] - made.tA[0];
    const parts = liveRows(made).map((r) => ({
      share: made.mass[r], centre: made.rows[r].mode, scale: made.rows[r].scale, B: B_MEAN,
      first: made.tA[0], step, count: A, even: r % 2 === 0,
      mass: made.weight.slice(r * A, (r + 1) * A).map((w) => w / made.mass[r]),
    }));
    return mixtureQuantiles(parts, moments.mean[0], moments.sd[0], probs);
  }

  /** Value at u of a smooth function given at 0, 1, 2, ...: Lagrange's formula on eight of its points. */
  const BINOMIAL = [1, -7, 21, -35, 35, -21, 7, -1];
  function lagrange(values, u) {
    const count = values.length;
    if (count < 8) return interpolate(u, Float64Array.from(values, (_, k) => k), values);
    const first = min(max(Math.floor(u) - 3, 0), count - 8);
    let up = 0, down = 0;
    for (let i = 0; i < 8; i++) {
      const apart = u - first - i;
      if (apart === 0) return values[first + i];
      const w = BINOMIAL[i] / apart;
      up += w * values[first + i];
      down += w;
    }
    return up / down;
  }

  const Z_STEP = 0.8, Z_COUNT = 8; // nodes of a normal on either side

  /** A unit's marginal given one row's sigma, on nodes of its own: masses, and what they miss of 1. */
  function effectGivenRow(model, row, u, step) {
    const U = model.units.length, { y, n, p, q, centre } = model.units[u], { sigma, alphaBar, tA } = row;
    const A = tA.length, [logI, shift, variance] = row.inner, logShare = new Float64Array(A);
    let mean = 0, second = 0;
    for (let k = 0; k < A; k++) {
      logShare[k] = row.logDensity[k] + row.logMeasure[k] - row.logLikelihood;
      mean += exp(logShare[k]) * (alphaBar[k] + shift[k * U + u]);
    }
    for (let k = 0; k < A; k++) {
      const at = k * U + u;
      second += exp(logShare[k]) * (variance[at] + (alphaBar[k] + shift[at] - mean) ** 2);
    }
    const sd = sqrt(second);
    // nodes around the mean, or around the likelihood's logistic step where that is much narrower
    const edge = sd > 3 && min(y, n - y) < 4;
    const [middle, width, B] = edge ? [centre, 1, 1] : [mean, sd, B_EFFECT];
    const [first, last] = [-12, 12].map((z) => B * asinh((mean + z * sd - middle) / (width * B)));
    const count = 2 * ceil((last - first) / step / 2) + 1, own = (last - first) / (count - 1);
    const mass = new Float64Array(count), thin = sigma < NARROW * row.scale;
    const others = [], at = [];
    let used = 0;
    for (let k = 0; k < A; k++) {
      if (thin) others.push(row.logDensity[k] - logI[k * U + u] - row.logLikelihood);
      else if (logShare[k] > -25) {
        others[used] = logShare[k] - logI[k * U + u] - log(sigma) - 0.5 * LOG_TWO_PI;
        at[used++] = alphaBar[k];
      }
    }
    const tStep = tA[1] - tA[0];
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const t = first + i * own, x = middle + width * B * sinh(t / B);
      const logL = logRatio(x - centre, y, n, p, q);
      let density = 0;
      if (thin) {
        for (let k = -Z_COUNT; k <= Z_COUNT; k++) {
          const z = k * Z_STEP, a = x - sigma * z;
          const place = (B_MEAN * asinh((a - row.mode) / (row.scale * B_MEAN)) - tA[0]) / tStep;
          if (place < 0 || place > A - 1) continue;
          density += exp(logL + lagrange(others, place) - 0.5 * z * z);
        }
        density *= Z_STEP / sqrt(2 * PI);
      } else {
        for (let k = 0; k < used; k++) {
          const z = (x - at[k]) / sigma, f = logL + others[k] - 0.5 * z * z;
          if (f > -60) density += exp(f);
        }
      }
      mass[i] = density * own * width * cosh(t / B);
      sum += mass[i];
    }
    for (let i = 0; i < count; i++) mass[i] /= sum;
    return { centre: middle, scale: width, B, first, step: own, count, mass, missing: abs(sum - 1) };
  }

  const EFFECT_STEPS = [0.45, 0.36, 0.25, 0.15, 0.08];

  /** Quantiles of one unit's effect, with finer nodes where they are needed. */
  function effectQuantiles(model, made, live, u, [mean, sd, sdP], probs, hint) {
    const { y, n } = model.units[u], kind = y === 0 || y === n ? "edge" : "mixed";
    let best = null;
    for (let k = hint[kind] || 0; k < EFFECT_STEPS.length; k++) {
      const step = EFFECT_STEPS[k];
      hint[kind] = k; // where the next group of the kind begins
      let missing = 0;
      const parts = live.map((r) => {
        const part = effectGivenRow(model, made.rows[r], u, step);
        part.share = made.mass[r];
        part.even = r % 2 === 0;
        missing += part.share * part.missing;
        return part;
      });
      const now = mixtureQuantiles(parts, mean, sd, probs);
      now.error += missing ** 1.3;
      const slope = max(...now.values.map((x) => expit(x) * expit(-x))); // of the rate, in its own sds
      now.error *= max(1, (slope * sd) / sdP);
      if (!best || now.error < best.error) best = now;
      if (best.error < QUANTILE_TOLERANCE / 2) break;
    }
    return best;
  }

  // ---------------------------------------------------------------------------------------------
  // The answer

  // first steps in t for the spread, the mean and the inner integral: many groups are nearly normal
  function firstSteps({ units }) {
    if (units.length <= 80) return [0.26, 0.5, 0.5];
    const mixed = units.filter(({ y, n }) => y > 0 && y < n).length;
    return [units.length <= 200 ? 0.32 : 0.4, mixed < 0.3 * units.length ? 0.46 : 0.58, 0.5];
  }
  const PROBS = [0.055, 0.5, 0.945];

  /**
   * Exact posterior of a table of counts.
   *
   * successes, trials: arrays of whole numbers, one per group (1 to 500).
   * options: sigmaPrior {family, scale, df}, Exponential(1) if not given (families: exponential with
   *   its mean as scale, half-normal, half-cauchy, half-student-t); alphaPrior {mean, sd}; probs, of the
   *   quantiles.
   * Returns sigma, alphaBar and pBar ({mean, sd, quantiles}), arrays of one entry per group (mean, sd,
   *   quantiles of the effect; rate.mean, rate.sd, rate.quantiles; own), logMarginalLikelihood, error
   *   (estimated, in posterior sds), and the functions sigmaDensity(x), priorDensity(x),
   *   sigmaQuantile(q).
   * Throws Refused, with a sentence, where there is no answer.
   */
  function posterior(successes, trials, options = {}) {
    const model = makeModel(successes, trials, options), probs = options.probs || PROBS;
    if (!probs.every((q) => q > 0 && q < 1)) {
      throw new Refused(`Probabilities lie strictly between 0 and 1; got ${probs.join(", ")}.`);
    }
    let mixed = 0;
    for (const { y, n, count } of model.units) if (y > 0 && y < n) mixed += count;
    if (!(model.prior.exponent + mixed > 3)) {
      throw new Refused("The tail of sigma falls too slowly for a finite sd; use a prior on sigma with a " +
        "lighter tail.");
    }
    const plan = makePlan(model);
    let answer = null;
    for (const finer of [1, 0.7, 0.5]) {
      const now = answerOf(model, plan, probs, firstSteps(model).map((s) => s * finer));
      if (!answer || now.error < answer.error) answer = now;
      if (answer.error < QUANTILE_TOLERANCE) return answer;
    }
    throw new Refused(`An interval of ${answer.worst} is not accurate (error estimate ` +
      `${answer.error.toExponential(0)} posterior sd); use less extreme priors.`);
  }

  function answerOf(model, plan, probs, steps) {
    const { made, moments, error } = converge(model, plan, steps);
    const { units, member } = model, U = units.length, live = liveRows(made);
    const quantileOf = sigmaQuantile(made, plan, model.prior, moments.sd[2]);
    const all = probs.map(quantileOf);
    const ofSigma = { values: all.map((one) => one.value), error: max(...all.map((one) => one.error)) };
    const ofMean = alphaBarQuantiles(made, moments, probs);
    let far = max(ofSigma.error, ofMean.error), worst = ofSigma.error < ofMean.error ? "the mean" : "sigma";
    const hint = {};
    const quantiles = units.map(({ y, n }, u) => {
      const { mean, sd } = moments, known = [mean[3 + u], sd[3 + u], sd[3 + U + u]];
      const one = effectQuantiles(model, made, live, u, known, probs, hint);
      if (!(one.error <= far)) {
        far = one.error;
        worst = `a group with ${y} of ${n}`;
      }
      return one.values;
    });
    const each = (values) => Float64Array.from(member, (u) => values[u]);
    const part = (values, from) => values.subarray(from, from + U);
    const logRow = Float64Array.from(made.rows, (row) => row.logLikelihood);
    const density = (x) => {
      const t = plan.t(log(x)), step = made.t[1] - made.t[0];
      if (!(x > 0) || t > made.t[made.t.length - 1]) return 0;
      return exp(lagrange(logRow, max((t - made.t[0]) / step, 0)) + model.prior.logpdf(x) - made.total);
    };
    const [alphaBar, pBar, sigma] = [0, 1, 2].map((i) => ({ mean: moments.mean[i], sd: moments.sd[i] }));
    alphaBar.quantiles = ofMean.values;
    pBar.quantiles = ofMean.values.map(expit);
    sigma.quantiles = ofSigma.values;
    return {
      probs, sigma, alphaBar, pBar,
      mean: each(part(moments.mean, 3)), sd: each(part(moments.sd, 3)),
      quantiles: Array.from(member, (u) => quantiles[u]),
      rate: {
        mean: each(part(moments.mean, 3 + U)), sd: each(part(moments.sd, 3 + U)),
        quantiles: Array.from(member, (u) => quantiles[u].map(expit)),
      },
      own: each(moments.own),
      logMarginalLikelihood: made.total,
      error: max(error, far), worst,
      sigmaPrior: model.prior, alphaPrior: { mean: model.mean, sd: model.sd },
      sigmaDensity: density,
      priorDensity: (x) => (x < 0 ? 0 : exp(model.prior.logpdf(x))),
      sigmaQuantile: (q) => quantileOf(q).value,
      ownAt: (s) => { // what every group tells of itself at one sigma, where alpha_bar is likeliest
        const { mode } = ridge(model, s), rule = ruleOf(0.4);
        const own = units.map((unit) => {
          integrateEffect(mode, s, unit, rule);
          return min(max(1 - found[2] / (s * s), 0), 1 - 1e-12);
        });
        return each(own);
      },
      nodes: made.rows.length * made.tA.length,
    };
  }

  Object.assign(counts, { Refused, exactPosterior: posterior });
  counts.quadrature = {
    B_MEAN, effectGivenRow, expit, integrateEffect, makeModel, makeRow, mixtureQuantiles, normalQuantile,
    ridge, ruleOf,
  };
  if (typeof module === "object") module.exports = explorer;
})((globalThis.fieldguideExplorer ??= {}));
