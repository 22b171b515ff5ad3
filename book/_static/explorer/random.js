// Seeded random numbers: sfc32 (Doty-Humphrey, PractRand), Box-Muller normals. State: a plain object.
"use strict";
((explorer) => {
  function bits(rng) {
    const t = (((rng.a + rng.b) | 0) + rng.counter) | 0;
    rng.counter = (rng.counter + 1) | 0;
    rng.a = rng.b ^ (rng.b >>> 9);
    rng.b = (rng.c + (rng.c << 3)) | 0;
    rng.c = (((rng.c << 21) | (rng.c >>> 11)) + t) | 0;
    return t >>> 0;
  }

  /** State of a generator, from two integers below 2^32 (seeded as PractRand does). */
  function seeded(seed, stream = 0) {
    const rng = { a: 0, b: seed | 0, c: stream | 0, counter: 1, spare: null };
    for (let i = 0; i < 12; i++) bits(rng);
    return rng;
  }

  /** A number strictly between 0 and 1; advances the state, as `normal` does. */
  const uniform = (rng) => (bits(rng) + 0.5) / 4294967296;

  function normal(rng) {
    if (rng.spare !== null) {
      const kept = rng.spare;
      rng.spare = null;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log(uniform(rng)));
    const angle = 2 * Math.PI * uniform(rng);
    rng.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  Object.assign(explorer, { seeded, uniform, normal });
})((globalThis.fieldguideExplorer ??= {}));
