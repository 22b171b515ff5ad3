// Hamiltonian paths: leapfrog with a diagonal metric, energy error, divergence, the longest stable step.
//
// A target is a function (q, gradient) -> log density that writes the gradient; `scale` is the metric,
// as standard deviations; a state is {q, p, density, gradient}.
"use strict";
((explorer) => {
  const LARGEST_ERROR = 1000; // a path is divergent where its energy has risen by as much

  function stateAt(target, q, p) {
    const gradient = new Array(q.length).fill(0);
    return { q: [...q], p: [...p], density: target(q, gradient), gradient };
  }

  const newMomentum = (scale, rng) => scale.map((s) => explorer.normal(rng) / s);

  function energy(state, scale) {
    let kinetic = 0;
    for (let i = 0; i < scale.length; i++) kinetic += (state.p[i] * scale[i]) ** 2;
    return 0.5 * kinetic - state.density;
  }

  /** One leapfrog step; a negative step goes back. */
  function leapfrog(target, state, step, scale) {
    const size = scale.length;
    const q = new Array(size).fill(0);
    const p = new Array(size).fill(0);
    const gradient = new Array(size).fill(0);
    for (let i = 0; i < size; i++) {
      p[i] = state.p[i] + 0.5 * step * state.gradient[i];
      q[i] = state.q[i] + step * scale[i] * scale[i] * p[i];
    }
    const density = target(q, gradient);
    for (let i = 0; i < size; i++) p[i] += 0.5 * step * gradient[i];
    return { q, p, density, gradient };
  }

  /**
   * A path of at most `steps` steps; it ends where it diverges.
   * @returns {{states: object[], errors: number[], diverged: boolean}} with the start as first state
   */
  function path(target, start, { step, scale, steps, largestError = LARGEST_ERROR }) {
    const states = [start];
    const errors = [0];
    const before = energy(start, scale);
    let diverged = false;
    while (states.length <= steps && !diverged) {
      const next = leapfrog(target, states[states.length - 1], step, scale);
      const error = energy(next, scale) - before;
      states.push(next);
      errors.push(error);
      diverged = !(error < largestError);
    }
    return { states, errors, diverged };
  }

  /** Largest eigenvalue of a symmetric matrix (Jacobi rotations; Golub and Van Loan, section 8.5). */
  function largestEigenvalue(matrix) {
    const m = matrix.map((row) => [...row]);
    const size = m.length;
    for (let sweep = 0; sweep < 30; sweep++) {
      let off = 0;
      let all = 0;
      m.forEach((row, i) => row.forEach((v, j) => ((all += v * v), (off += i === j ? 0 : v * v))));
      if (!(off > 1e-24 * all)) break;
      for (let i = 0; i < size; i++) {
        for (let j = i + 1; j < size; j++) {
          if (m[i][j] === 0) continue;
          const tau = (m[j][j] - m[i][i]) / (2 * m[i][j]);
          const t = (tau >= 0 ? 1 : -1) / (Math.abs(tau) + Math.hypot(1, tau));
          const c = 1 / Math.hypot(1, t);
          const s = t * c;
          for (let k = 0; k < size; k++) {
            [m[k][i], m[k][j]] = [c * m[k][i] - s * m[k][j], s * m[k][i] + c * m[k][j]];
          }
          for (let k = 0; k < size; k++) {
            [m[i][k], m[j][k]] = [c * m[i][k] - s * m[j][k], s * m[i][k] + c * m[j][k]];
          }
        }
      }
    }
    return Math.max(...m.map((row, i) => row[i]));
  }

  /**
   * Longest stable step at q: 2 / omega, with omega^2 the largest eigenvalue of the negative Hessian
   * (central differences of the gradient) in units of the metric (Leimkuhler and Reich 2004, 2.6).
   */
  function longestStableStep(target, q, scale, nudge = 1e-4) {
    const size = q.length;
    const gradientAt = (i, by) => {
      const at = [...q];
      const gradient = new Array(size).fill(0);
      at[i] += by;
      target(at, gradient);
      return gradient;
    };
    const bent = q.map((_, i) => {
      const low = gradientAt(i, -nudge);
      const high = gradientAt(i, nudge);
      return low.map((v, j) => ((v - high[j]) / (2 * nudge)) * scale[i] * scale[j]);
    });
    const fastest = largestEigenvalue(bent.map((row, i) => row.map((v, j) => (v + bent[j][i]) / 2)));
    return fastest > 0 ? 2 / Math.sqrt(fastest) : Infinity;
  }

  Object.assign(explorer, {
    LARGEST_ERROR, stateAt, newMomentum, energy, leapfrog, path, longestStableStep,
  });
})((globalThis.fieldguideExplorer ??= {}));
