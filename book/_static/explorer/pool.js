// The posterior of the groups were the spread between them known: from one estimate to strangers.
"use strict";
((explorer) => {
  const counts = (explorer.counts ??= {});
  const REACH = 5; // first ends of alpha_bar's nodes, in t
  const END = 1e-9; // probability that may lie on a last node
  const TOLERANCE = 1e-6; // estimated error, in posterior sds

  /**
   * Groups whose spread will be given.
   *
   * successes, trials: arrays of whole numbers, one per group; options: alphaPrior {mean, sd}.
   * Returns a function of sigma (from 0 on, in logits) and, if wanted, probabilities, which returns
   * mean, sd and quantiles of every effect, rate.mean, rate.sd and rate.quantiles, own (what its own
   * counts tell of a group), alphaBar {mean, sd}, and the log likelihood of sigma.
   */
  function givenSpread(successes, trials, options = {}) {
    const { B_MEAN, Refused } = { ...counts.quadrature, Refused: counts.Refused };
    const { effectGivenRow, expit, makeModel, makeRow, mixtureQuantiles, ridge, ruleOf } = counts.quadrature;
    const model = makeModel(successes, trials, options), { units, member } = model, U = units.length;
    const each = (values) => Float64Array.from(member, (u) => values[u]);

    function row(sigma) {
      const { mode, scale } = ridge(model, sigma), cap = 1.5 * Math.sqrt(1 + Math.min(sigma, 1) ** 2);
      const wide = Math.max(scale / cap, 1);
      const first = B_MEAN * Math.asinh(Math.sinh(REACH / B_MEAN) * wide), reach = [-first, first];
      for (let k = 0, step = 0.6; k < 12; k++) {
        const count = 2 * Math.ceil((reach[1] - reach[0]) / step / 2);
        const tA = Float64Array.from({ length: count + 1 }, (_, i) =>
          reach[0] + ((reach[1] - reach[0]) * i) / count);
        const made = makeRow(model, sigma, mode, scale / wide, tA, ruleOf(0.5));
        const weight = made.logDensity.map((d, i) => Math.exp(d + made.logMeasure[i] - made.logLikelihood));
        const ends = [weight[0] > END, weight[count] > END];
        if (ends[0] || ends[1]) {
          reach[0] -= ends[0];
          reach[1] += ends[1];
          continue;
        }
        const all = moments(made, weight), half = moments(made, weight.map((w, i) => (i % 2 ? 0 : 2 * w)));
        let far = 0;
        all.mean.forEach((m, u) => {
          far = Math.max(far, Math.abs(half.mean[u] - m) / all.sd[u], Math.abs(half.sd[u] / all.sd[u] - 1));
        });
        if (4 * far * far < TOLERANCE) return { made, all };
        step *= 0.7;
      }
      throw new Refused(`Given a spread of ${sigma} the nodes do not reach the tails of the groups' mean; ` +
        "use a narrower prior for it.");
    }

    function moments(made, weight) {
      const [, shift, variance, p, varianceP] = made.inner;
      const out = { mean: new Float64Array(U), sd: new Float64Array(U), own: new Float64Array(U),
        rate: new Float64Array(U), rateSd: new Float64Array(U), alphaBar: 0, alphaBarSd: 0 };
      const sum = weight.reduce((a, b) => a + b, 0);
      for (const pass of [0, 1]) {
        weight.forEach((one, k) => {
          const w = one / sum, a = made.alphaBar[k];
          if (pass) out.alphaBarSd += w * (a - out.alphaBar) ** 2;
          else out.alphaBar += w * a;
          for (let u = 0, at = k * U; u < U; u++, at++) {
            if (pass) {
              out.sd[u] += w * (variance[at] + (a + shift[at] - out.mean[u]) ** 2);
              out.rateSd[u] += w * (varianceP[at] + (p[at] - out.rate[u]) ** 2);
            } else {
              out.mean[u] += w * (a + shift[at]);
              out.rate[u] += w * p[at];
              if (made.sigma > 0) out.own[u] += w * Math.max(1 - variance[at] / made.sigma ** 2, 0);
            }
          }
        });
      }
      for (const name of ["sd", "rateSd"]) out[name] = out[name].map(Math.sqrt);
      out.alphaBarSd = Math.sqrt(out.alphaBarSd);
      return out;
    }

    return (sigma, probs = null) => {
      if (!(Number.isFinite(sigma) && sigma >= 0 && sigma <= 1e4)) {
        throw new Refused(`A spread is a number from 0 to 10000 logits; got ${sigma}.`);
      }
      const { made, all } = row(sigma);
      const quantiles = probs && units.map((_, u) => {
        let best = null;
        for (const step of [0.35, 0.18, 0.09]) {
          const part = { ...effectGivenRow(model, made, u, step), share: 1, even: false };
          best = mixtureQuantiles([part], all.mean[u], all.sd[u], probs);
          if (best.error < 1e-6) break;
        }
        return best.values;
      });
      return {
        sigma, mean: each(all.mean), sd: each(all.sd), own: each(all.own),
        quantiles: quantiles && Array.from(member, (u) => quantiles[u]),
        rate: {
          mean: each(all.rate), sd: each(all.rateSd),
          quantiles: quantiles && Array.from(member, (u) => quantiles[u].map(expit)),
        },
        alphaBar: { mean: all.alphaBar, sd: all.alphaBarSd },
        logLikelihood: made.logLikelihood,
      };
    };
  }

  counts.givenSpread = givenSpread;
  if (typeof module === "object") module.exports = explorer;
})((globalThis.fieldguideExplorer ??= {}));
