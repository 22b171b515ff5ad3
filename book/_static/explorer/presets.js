// Attempts of the book as settings of the explorer; presets.schema.json says what they hold.
"use strict";
((explorer) => {
  /** Model, settings of the paths and start of a chain of an attempt. */
  function preset(presets, id, chain = 0) {
    const attempt = presets.attempts.find((one) => one.id === id);
    const of = attempt?.chains[chain];
    if (!of) throw new Error(`There is no chain ${chain} of an attempt ${id}.`);
    const { successes, trials, alphaPrior } = presets;
    const { form, weight, sigmaPrior } = attempt;
    const model = explorer.posterior({ successes, trials, alphaPrior, form, weight, sigmaPrior });
    return { model, settings: { step: of.step, scale: of.scale }, start: of.position };
  }

  Object.assign(explorer, { preset });
})((globalThis.fieldguideExplorer ??= {}));
