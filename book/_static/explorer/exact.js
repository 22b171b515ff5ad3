// The exact posterior by quadrature. Given (alpha_bar, sigma) the districts are independent, so
//   p(alpha_bar, log sigma | y) ~ p(alpha_bar) p(log sigma) prod_j I_j(alpha_bar, sigma),
//   I_j = integral of Binomial(y_j | n_j, alpha) N(alpha | alpha_bar, sigma) over alpha.
// Integrands are log-concave, but for that over log sigma. Each integral is a trapezoidal sum in t,
// x = mode + width sinh(t), taken outwards from the mode until its terms no longer count.
"use strict";
((explorer) => {
  const STEP = { effect: 0.15, mean: 0.2, sigma: 0.08, joint: 0.25 }; // in t
  const REACH = 5; // largest t
  const HALF_LOG_TWO_PI = 0.5 * Math.log(2 * Math.PI);

  function nodes(step) {
    const t = Array.from({ length: Math.ceil(REACH / step) + 1 }, (_, i) => i * step);
    return { step, sinh: t.map(Math.sinh), cosh: t.map(Math.cosh) };
  }
  const NODES = Object.fromEntries(Object.entries(STEP).map(([name, step]) => [name, nodes(step)]));

  /**
   * Mode of a log-concave function, by Newton's steps within the bracket found so far.
   * @param {(x: number) => number[]} slopes first and second derivative
   * @returns {number[]} the mode, to a thousandth of the width, and the width there
   */
  function climb(slopes, x) {
    let low = -Infinity;
    let high = Infinity;
    let width = 1;
    for (let i = 0; i < 80; i++) {
      const [g, k] = slopes(x);
      width = 1 / Math.sqrt(Math.max(-k, 1e-12));
      if (g > 0) low = x;
      else high = x;
      const limit = 5 * width * 2 ** i;
      const move = Math.max(-limit, Math.min(limit, g * width * width));
      if (Math.abs(move) < 1e-3 * width) return [x + move, width];
      x += move;
      if (!(x > low && x < high)) x = 0.5 * (low + high);
    }
    return [x, width];
  }

  /**
   * log I_j with its first two derivatives in alpha_bar, and mean and variance of alpha_j - alpha_bar
   * given (alpha_bar, sigma); the binomial coefficient is left out. Written into `out`.
   */
  function effectIntegral(y, n, mean, sigma, out) {
    const variance = sigma * sigma;
    // shift = effect - alpha_bar; at the mode it lies between 0 and where the proportion is
    const apart = Math.log(y / (n - y)) - mean;
    let low = y > 0 ? Math.max(-(n - y) * variance, Math.min(0, apart)) : -n * variance;
    let high = y < n ? Math.min(y * variance, Math.max(0, apart)) : n * variance;
    const p0 = (y + 0.5) / (n + 1);
    const known = n * p0 * (1 - p0) * variance;
    let mode = ((Math.log(p0 / (1 - p0)) - mean) * known) / (known + 1);
    let width = sigma;
    for (let i = 0; i < 60; i++) {
      mode = mode >= low && mode <= high ? mode : 0.5 * (low + high);
      const p = explorer.expit(mean + mode);
      const slope = y - n * p - mode / variance;
      width = sigma / Math.sqrt(1 + variance * n * p * (1 - p));
      if (slope > 0) low = mode;
      else high = mode;
      const move = slope * width * width;
      mode += move;
      if (Math.abs(move) < 1e-3 * width) break;
    }
    let sum = 0;
    let bySlope = 0;
    let bySlope2 = 0;
    let byCurvature = 0;
    let byShift = 0;
    let byShift2 = 0;
    let top = 0;
    const { sinh, cosh, step } = NODES.effect;
    for (let side = 1; side >= -1; side -= 2) {
      for (let i = side === 1 ? 0 : 1; i < sinh.length; i++) {
        const shift = mode + side * width * sinh[i];
        const alpha = mean + shift;
        const e = Math.exp(-Math.abs(alpha));
        const p = alpha >= 0 ? 1 / (1 + e) : e / (1 + e);
        const plus = (alpha > 0 ? alpha : 0) + Math.log1p(e);
        const z = shift / sigma;
        const value = y * alpha - n * plus - 0.5 * z * z;
        if (side === 1 && i === 0) top = value;
        const term = Math.exp(value - top) * cosh[i];
        const slope = y - n * p;
        sum += term;
        bySlope += term * slope;
        bySlope2 += term * slope * slope;
        byCurvature += term * n * p * (1 - p);
        byShift += term * shift;
        byShift2 += term * shift * shift;
        if (!(term > 1e-13)) break;
      }
    }
    const slope = bySlope / sum;
    const shift = byShift / sum;
    out[0] = top + Math.log((sum * step * width) / sigma) - HALF_LOG_TWO_PI;
    out[1] = slope;
    out[2] = bySlope2 / sum - slope * slope - byCurvature / sum;
    out[3] = shift;
    out[4] = byShift2 / sum - shift * shift;
  }

  /**
   * All that depends on one log sigma: nodes of alpha_bar with each district's log integral there.
   * `logMass` is the log density of (y, log sigma), without the binomial coefficients.
   */
  function row(model, logSigma, guess = model.alphaPrior.mean) {
    const { successes, trials, alphaPrior } = model;
    const sigma = Math.exp(logSigma);
    const [prior] = explorer.sigmaPrior(model.sigmaPrior, logSigma);
    const out = [0, 0, 0, 0, 0];
    const constant = -Math.log(alphaPrior.sd) - HALF_LOG_TWO_PI;
    const at = (mean) => {
      const z = (mean - alphaPrior.mean) / alphaPrior.sd;
      let slope = -z / alphaPrior.sd;
      let curvature = -1 / alphaPrior.sd ** 2;
      let value = constant - 0.5 * z * z;
      const own = [];
      const ownSlope = [];
      const ownCurvature = [];
      const shift = [];
      const variance = [];
      for (let j = 0; j < successes.length; j++) {
        effectIntegral(successes[j], trials[j], mean, sigma, out);
        own.push(out[0]);
        ownSlope.push(out[1]);
        ownCurvature.push(out[2]);
        shift.push(out[3]);
        variance.push(out[4]);
        value += out[0];
        slope += out[1];
        curvature += out[2];
      }
      return { mean, value, slope, curvature, own, ownSlope, ownCurvature, shift, variance };
    };
    const [mode, width] = climb((mean) => {
      const { slope, curvature } = at(mean);
      return [slope, curvature];
    }, guess);
    const { sinh, cosh, step } = NODES.mean;
    const top = at(mode);
    const points = [{ ...top, t: 0, weight: 1 }];
    let sum = 1;
    for (let side = 1; side >= -1; side -= 2) {
      for (let i = 1; i < sinh.length; i++) {
        const point = at(mode + side * width * sinh[i]);
        const term = Math.exp(point.value - top.value) * cosh[i];
        points[side === 1 ? "push" : "unshift"]({ ...point, t: side * i * step, weight: term });
        sum += term;
        if (!(term > 1e-15)) break;
      }
    }
    const logMass = prior + top.value + Math.log(sum * step * width);
    return { logSigma, mode, width, points, prior, logMass };
  }

  /**
   * The posterior of log sigma, tabulated; the form of `model` does not matter.
   * @returns plain object for the functions below
   */
  function exact(model) {
    let guess = model.alphaPrior.mean;
    const rowAt = (s) => {
      const made = row(model, s, guess);
      guess = made.mode;
      return made;
    };
    // the mode of log sigma: on a coarse grid, then by halving its steps
    const start = Math.log(model.sigmaPrior.scale);
    const coarse = Array.from({ length: 19 }, (_, i) => rowAt(start + 2.5 - 0.5 * i));
    const best = coarse.reduce((a, b) => (b.logMass > a.logMass ? b : a));
    let { logSigma: mode, logMass: top } = best;
    for (let gap = 0.25; gap > 0.01; gap /= 2) {
      for (const made of [rowAt(mode - gap), rowAt(mode + gap)]) {
        if (made.logMass > top) ({ logSigma: mode, logMass: top } = made);
      }
    }
    // its width: how far to where the log density has fallen by a half, on the nearer side
    let width = 0.01;
    while (Math.min(rowAt(mode - width).logMass, rowAt(mode + width).logMass) > top - 0.5) width *= 1.25;
    const { sinh, cosh, step } = NODES.sigma;
    const table = [{ t: 0, f: 1, made: rowAt(mode) }];
    for (let side = 1; side >= -1; side -= 2) {
      guess = best.mode;
      for (let i = 1; i < sinh.length; i++) {
        const made = rowAt(mode + side * width * sinh[i]);
        const f = Math.exp(made.logMass - top) * cosh[i];
        table[side === 1 ? "push" : "unshift"]({ t: side * i * step, f, made });
        if (!(f > 1e-12)) break;
      }
    }
    const f = table.map((one) => one.f);
    const total = f.reduce((sum, v) => sum + v, 0) * step;
    return {
      model,
      mode,
      width,
      first: table[0].t,
      density: f.map((v) => v / total), // of t, at first, first + step, ...
      rows: table.map((one) => one.made),
      logMarginal: top + Math.log(total * width), // without the binomial coefficients
    };
  }

  /** Posterior probability that log sigma is below a value. */
  function belowLogSigma(posterior, logSigma) {
    const { density: f, first } = posterior;
    const step = STEP.sigma;
    const u = (Math.asinh((logSigma - posterior.mode) / posterior.width) - first) / step;
    const last = f.length - 1;
    if (u <= 0) return 0;
    if (u >= last) return 1;
    const at = (i) => f[Math.max(0, Math.min(last, i))];
    const slope = (i) => (8 * (at(i + 1) - at(i - 1)) - (at(i + 2) - at(i - 2))) / 12;
    const cell = Math.floor(u);
    let sum = 0;
    for (let i = 0; i < cell; i++) sum += 0.5 * (f[i] + f[i + 1]) + (slope(i) - slope(i + 1)) / 12;
    const r = u - cell; // the rest is the integral of a cubic through both ends with their slopes
    const [a, b, c, d] = [f[cell], f[cell + 1], slope(cell), slope(cell + 1)];
    const cubic = [a, c, 3 * (b - a) - 2 * c - d, 2 * (a - b) + c + d];
    sum += cubic.reduce((part, v, k) => part + (v * r ** (k + 1)) / (k + 1), 0);
    return Math.min(1, sum * step);
  }

  /**
   * Exact means and standard deviations of the coordinates of `model`: a metric for any form. Where a
   * half-Cauchy or half-Student-t prior leaves an effect without a finite moment they mean nothing.
   */
  function moments(posterior, model) {
    const size = model.dimension;
    const first = new Array(size).fill(0);
    const second = new Array(size).fill(0);
    posterior.rows.forEach(({ logSigma, points }, i) => {
      const total = points.reduce((sum, one) => sum + one.weight, 0);
      for (const { mean, weight, shift, variance } of points) {
        const w = (posterior.density[i] * STEP.sigma * weight) / total;
        const gather = (k, value, spread) => {
          first[k] += w * value;
          second[k] += w * (value * value + spread);
        };
        gather(0, mean, 0);
        gather(1, logSigma, 0);
        model.location.forEach((a, j) => {
          const scale = Math.exp((model.power[j] - 1) * logSigma);
          gather(j + 2, a * mean + scale * shift[j], scale * scale * variance[j]);
        });
      }
    });
    return { mean: first, sd: first.map((v, k) => Math.sqrt(second[k] - v * v)) };
  }

  /** Rows at given values of log sigma, for `logSigmaDensity` and, in any form, `jointDensity`. */
  function rowsAt(posterior, logSigmas) {
    let guess = posterior.model.alphaPrior.mean;
    return logSigmas.map((logSigma) => {
      const made = row(posterior.model, logSigma, guess);
      guess = made.mode;
      return made;
    });
  }

  /** Posterior density of log sigma at each row. */
  const logSigmaDensity = (posterior, rows) =>
    rows.map((made) => Math.exp(made.logMass - posterior.logMarginal));

  /**
   * Function of alpha_bar that writes the log of its prior times all integrals but district j's, and
   * two derivatives: quintic Hermite between the nodes of a row, linear beyond them.
   */
  function others({ points, mode, width }, j) {
    const step = STEP.mean;
    const last = points.length - 1;
    const ends = points.map(({ mean, value, slope, curvature, own, ownSlope, ownCurvature, t }) => {
      const unit = step * width * Math.cosh(t); // d alpha_bar / du, with u = t / step
      const d = slope - ownSlope[j];
      const bend = (curvature - ownCurvature[j]) * unit * unit + d * step * step * width * Math.sinh(t);
      return { mean, f: value - own[j], slope: d, d: d * unit, bend };
    });
    const cells = ends.slice(1).map((next, i) => {
      const { f, d, bend } = ends[i];
      const rise = next.f - f - d - bend / 2;
      const turn = next.d - d - bend;
      const more = next.bend - bend;
      const three = 10 * rise - 4 * turn + more / 2;
      return [f, d, bend / 2, three, 7 * turn - 15 * rise - more, 6 * rise - 3 * turn + more / 2];
    });
    return (mean, out) => {
      if (mean <= ends[0].mean || mean >= ends[last].mean) {
        const end = mean <= ends[0].mean ? ends[0] : ends[last];
        out[0] = end.f + end.slope * (mean - end.mean);
        out[1] = end.slope;
        out[2] = 0;
        return;
      }
      const x = (mean - mode) / width;
      const root = Math.sqrt(1 + x * x);
      const u = (Math.asinh(x) - points[0].t) / step;
      const i = Math.min(last - 1, Math.max(0, Math.floor(u)));
      const r = u - i;
      const [c0, c1, c2, c3, c4, c5] = cells[i];
      const unit = step * width * root;
      const first = (c1 + r * (2 * c2 + r * (3 * c3 + r * (4 * c4 + 5 * r * c5)))) / unit;
      out[0] = c0 + r * (c1 + r * (c2 + r * (c3 + r * (c4 + r * c5))));
      out[1] = first;
      out[2] = (2 * c2 + r * (6 * c3 + r * (12 * c4 + 20 * r * c5))) / unit ** 2;
      out[2] -= (first * x) / (root * root * width);
    };
  }

  /**
   * Posterior density of (x_j, log sigma) in the coordinates of `model` (x_j is alpha_j if it is the
   * centered form's), as one array of densities over `xs` for each row.
   */
  function jointDensity(posterior, model, j, xs, rows) {
    const [y, n] = [model.successes[j], model.trials[j]];
    const [a, b] = [model.location[j], model.power[j]];
    const { sinh, cosh, step } = NODES.joint;
    const rest = [0, 0, 0];
    return rows.map((made) => {
      const { logSigma } = made;
      const other = others(made, j);
      const precision = Math.exp(-2 * b * logSigma);
      const scale = Math.exp((1 - b) * logSigma);
      const along = 1 - a * scale; // d alpha / d alpha_bar at a given x
      const constant = made.prior - b * logSigma - HALF_LOG_TWO_PI - posterior.logMarginal;
      const log = (x, mean) => {
        const r = x - a * mean;
        const alpha = mean + scale * r;
        other(mean, rest);
        return y * alpha - n * explorer.softplus(alpha) - 0.5 * precision * r * r + rest[0];
      };
      const slopes = (x, mean) => {
        const r = x - a * mean;
        const p = explorer.expit(mean + scale * r);
        other(mean, rest);
        const first = (y - n * p) * along + a * precision * r + rest[1];
        return [first, -n * p * (1 - p) * along * along - a * a * precision + rest[2]];
      };
      let from = made.mode;
      return xs.map((x) => {
        const [mode, width] = climb((mean) => slopes(x, mean), from);
        from = mode;
        const top = log(x, mode);
        let sum = 1;
        for (let side = 1; side >= -1; side -= 2) {
          for (let i = 1; i < sinh.length; i++) {
            const term = Math.exp(log(x, mode + side * width * sinh[i]) - top) * cosh[i];
            sum += term;
            if (!(term > 1e-10)) break;
          }
        }
        return Math.exp(top + constant) * sum * step * width;
      });
    });
  }

  Object.assign(explorer, {
    exact, belowLogSigma, moments, rowsAt, logSigmaDensity, jointDensity, effectIntegral,
  });
})((globalThis.fieldguideExplorer ??= {}));
