// Multinomial no-U-turn sampling with a given step and metric (Hoffman and Gelman 2014, JMLR 15;
// Betancourt 2017, arXiv:1701.02434, appendix A). The decisions are those of fieldguide.nuts.NoUTurn,
// in its order, so that both make the same draws from the same random numbers.
"use strict";
((explorer) => {
  const RULES = ["ends", "sum"]; // a path turns back by its two ends (nutpie) or its summed momenta (Stan)

  const add = (a, b) => a.map((v, i) => v + b[i]);
  const addLogs = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));

  function turns(tree, left, right, momenta) {
    let atLeft = 0;
    let atRight = 0;
    for (let i = 0; i < momenta.length; i++) {
      const ends = tree.rule === "ends";
      const way = ends ? right.q[i] - left.q[i] : momenta[i] * tree.scale[i] ** 2;
      atLeft += way * left.p[i];
      atRight += way * right.p[i];
    }
    return tree.rule === "ends" ? atLeft < 0 || atRight < 0 : atLeft <= 0 || atRight <= 0;
  }

  function join(tree, one, more, forward) {
    const [a, b] = forward ? [one, more] : [more, one];
    const momenta = add(a.momenta, b.momenta);
    let turned = turns(tree, a.left, b.right, momenta);
    if (one.depth > 0 && !turned) {
      turned =
        turns(tree, a.left, b.left, add(a.momenta, b.left.p)) ||
        turns(tree, a.right, b.right, add(b.momenta, a.right.p));
    }
    const logWeight = addLogs(one.logWeight, more.logWeight);
    return { left: a.left, right: b.right, chosen: one.chosen, momenta, logWeight, depth: one.depth + 1, turned };
  }

  /** 2^depth further points, or null where they diverge or turn back. */
  function stretch(tree, state, forward, depth) {
    if (depth === 0) {
      const next = explorer.leapfrog(tree.target, state, forward ? tree.step : -tree.step, tree.scale);
      const error = explorer.energy(next, tree.scale) - tree.energy;
      tree.steps++;
      tree.accepted += error > 0 ? Math.exp(-error) : error <= 0 ? 1 : 0;
      if (!(error < tree.largestError)) {
        tree.diverged = { from: state.q, to: next.q, error };
        return null;
      }
      return { left: next, right: next, chosen: next, momenta: next.p, logWeight: -error, depth: 0 };
    }
    const first = stretch(tree, state, forward, depth - 1);
    if (!first) return null;
    const second = stretch(tree, forward ? first.right : first.left, forward, depth - 1);
    if (!second) return null;
    const joined = join(tree, first, second, forward);
    if (Math.log(explorer.uniform(tree.rng)) < second.logWeight - joined.logWeight) joined.chosen = second.chosen;
    return joined.turned ? null : joined;
  }

  /**
   * One transition from q.
   * @param {{step: number, scale: number[], rule?: string, largestError?: number, depth?: number}} settings
   * @returns {{q: number[], density: number, diverged: ?{from, to, error}, steps: number, depth: number,
   *   acceptance: number}} `acceptance` is the mean of min(1, exp(-error)) over the points tried
   */
  function transition(target, q, settings, rng) {
    const { step, scale, rule = "ends", largestError = explorer.LARGEST_ERROR, depth = 10 } = settings;
    if (!RULES.includes(rule)) throw new Error(`A path turns back by one of ${RULES.join(", ")}, not by ${rule}.`);
    const start = explorer.stateAt(target, q, explorer.newMomentum(scale, rng));
    const tree = {
      target, step, scale, rule, largestError, rng,
      energy: explorer.energy(start, scale), steps: 0, accepted: 0, diverged: null,
    };
    let way = { left: start, right: start, chosen: start, momenta: start.p, logWeight: 0, depth: 0 };
    while (way.depth < depth) {
      const forward = explorer.uniform(rng) < 0.5;
      const more = stretch(tree, forward ? way.right : way.left, forward, way.depth);
      if (!more) break;
      const joined = join(tree, way, more, forward);
      if (Math.log(explorer.uniform(rng)) < more.logWeight - way.logWeight) joined.chosen = more.chosen;
      way = joined;
      if (way.turned) break;
    }
    const { chosen } = way;
    const acceptance = tree.accepted / tree.steps;
    const { diverged, steps } = tree;
    return { q: chosen.q, density: chosen.density, diverged, steps, depth: way.depth, acceptance };
  }

  /**
   * `count` transitions; a further call with `last` and the same rng continues the chain.
   * @returns {{positions: number[][], diverged: boolean[], divergent: object[], divergences: number,
   *   acceptance: number, steps: number, smallest: number, last: number[]}} `divergent` holds where the
   *   paths diverged ({from, to, error}), `smallest` is the least log sigma (q[1]) among the positions
   */
  function sample(target, q, settings, rng, count) {
    const taken = [];
    for (let i = 0; i < count; i++) taken.push(transition(target, i ? taken[i - 1].q : q, settings, rng));
    const total = (of) => taken.reduce((sum, one) => sum + of(one), 0);
    const divergent = taken.map((one) => one.diverged).filter(Boolean);
    return {
      positions: taken.map((one) => one.q),
      diverged: taken.map((one) => one.diverged !== null),
      divergent,
      divergences: divergent.length,
      acceptance: total((one) => one.acceptance) / count,
      steps: total((one) => one.steps),
      smallest: taken.reduce((least, one) => Math.min(least, one.q[1]), Infinity),
      last: count ? taken[count - 1].q : q,
    };
  }

  Object.assign(explorer, { RULES, transition, sample });
})((globalThis.fieldguideExplorer ??= {}));
