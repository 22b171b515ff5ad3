// A table of counts as a program that is ready to run: the text of fieldguide.counts_code, letter by letter.
"use strict";
((explorer) => {
  const counts = (explorer.counts ??= {});
  const MOST_INLINE = 60; // groups up to which the counts stand in the program
  const FILE = "counts.csv";

  const number = (value) => counts.numbers.general(value, 12);

  function inPython({ family, scale, df }) {
    if (family === "exponential") return ["Exponential", `lam=${number(1 / scale)}`];
    if (family === "half-normal") return ["HalfNormal", `sigma=${number(scale)}`];
    if (family === "half-cauchy") return ["HalfCauchy", `beta=${number(scale)}`];
    return ["HalfStudentT", `nu=${number(df)}, sigma=${number(scale)}`];
  }

  function inStan({ family, scale, df }) {
    if (family === "exponential") return `exponential(${number(1 / scale)})`;
    if (family === "half-normal") return `normal(0, ${number(scale)})`;
    if (family === "half-cauchy") return `cauchy(0, ${number(scale)})`;
    return `student_t(${number(df)}, 0, ${number(scale)})`;
  }

  const inline = (recipe) => recipe.counts.group.length <= MOST_INLINE;

  /** Numbers as a list over several lines. */
  function array(values, write = String, width = 88) {
    const lines = [];
    let line = "   ";
    for (const value of values) {
      const word = ` ${write(value)},`;
      if (line.length + word.length > width) {
        lines.push(line);
        line = "   ";
      }
      line += word;
    }
    return `[\n${[...lines, line].join("\n")}\n]`;
  }

  const OWN = { group: "group", successes: "successes", trials: "trials" };
  const source = ({ path, called, separator }) =>
    path === null ? [FILE, OWN, ","] : [path, called, separator];
  const whereFrom = ({ path }) =>
    path === null ? `# ${FILE} has one row per group; save it with the button "Save the counts".\n` : "";

  function pythonData(recipe) {
    const data = recipe.counts, { repr } = counts.numbers;
    if (inline(recipe)) {
      const names = data.group.map((name) => `    ${repr(name)},`).join("\n");
      return `group = [\n${names}\n]\nsuccesses = np.array(${array(data.successes)})\n` +
        `trials = np.array(${array(data.trials)})\n`;
    }
    const [path, names, separator] = source(data);
    const apart = separator === "," ? "" : `, sep=${repr(separator)}`;
    return `${whereFrom(data)}kinds = {${repr(names.group)}: str}\n` +
      `table = pd.read_csv(${repr(path)}, dtype=kinds, skipinitialspace=True${apart})\n` +
      `group = table[${repr(names.group)}].str.strip().to_list()\n` +
      `successes = table[${repr(names.successes)}].to_numpy(int)\n` +
      `trials = table[${repr(names.trials)}].to_numpy(int)\n`;
  }

  const EFFECTS = {
    centered: [
      "# Centered: the counts of every group say more of it than the other groups do.\n",
      '    alpha = pm.Normal("alpha", alpha_bar, sigma, dims="group")\n',
    ],
    "non-centered": [
      "# Non-centered: the form for groups that know little, and for a sigma that may be small.\n",
      '    z = pm.Normal("z", 0, 1, dims="group")\n' +
      '    alpha = pm.Deterministic("alpha", alpha_bar + sigma * z, dims="group")\n',
    ],
    mixed: [
      "# Mixed: w is how far each group is centered, the share of what is known of it that its own\n" +
      "# counts say. At w = 0 this is the non-centered form, at w = 1 the centered one.\n",
      '    x = pm.Normal("x", w * alpha_bar, sigma**w, dims="group")\n' +
      "    alpha = pm.Deterministic(\n" +
      '        "alpha", alpha_bar + sigma ** (1 - w) * (x - w * alpha_bar), dims="group"\n' +
      "    )\n",
    ],
  };

  function weights(recipe) {
    if (recipe.form !== "mixed") return "";
    const { fixed, general } = counts.numbers;
    if (inline(recipe)) return `w = np.array(${array(recipe.weights, (w) => fixed(w, 3))})\n`;
    return "pooled = successes.sum() / trials.sum()\n" +
      "share = (successes + pooled) / (trials + 1)\n" +
      "information = trials * share * (1 - share)\n" +
      `w = information / (information + 1 / ${general(recipe.spread, 4)} ** 2)\n`;
  }

  function pymc(recipe) {
    const { mean, sd } = recipe.alphaPrior, [name, numbers] = inPython(recipe.sigmaPrior);
    const [comment, effects] = EFFECTS[recipe.form], pandas = inline(recipe) ? "" : "import pandas as pd\n";
    return `import arviz as az\nimport numpy as np\n${pandas}import pymc as pm\n\n` +
      `${pythonData(recipe)}\n${comment}${weights(recipe)}` +
      'with pm.Model(coords={"group": group}) as model:\n' +
      `    alpha_bar = pm.Normal("alpha_bar", ${number(mean)}, ${number(sd)})\n` +
      `    sigma = pm.${name}("sigma", ${numbers})\n` +
      effects +
      '    pm.Deterministic("rate", pm.math.sigmoid(alpha), dims="group")\n' +
      '    pm.Binomial("y", n=trials, logit_p=alpha, observed=successes, dims="group")\n\n' +
      'if __name__ == "__main__":\n' +
      "    with model:\n" +
      `        fit = pm.sample(target_accept=${recipe.target}, random_seed=1)\n` +
      '    print(az.summary(fit, var_names=["alpha_bar", "sigma", "rate"]))\n';
  }

  function bambi(recipe) {
    const { mean, sd } = recipe.alphaPrior, [name, numbers] = inPython(recipe.sigmaPrior);
    const spread = `bmb.Prior("${name}", ${numbers})`, centered = recipe.form === "centered";
    const [comment, formula, priors] = centered ? [
      "# Centered: Bambi builds it where the groups' prior has a mean, and the formula none.\n" +
      '# "1|group_mu" is the mean of the groups, "1|group_sigma" their spread.\n',
      "p(successes, trials) ~ 0 + (1|group)",
      '    "1|group": bmb.Prior(\n' +
      `        "Normal", mu=bmb.Prior("Normal", mu=${number(mean)}, sigma=${number(sd)}),\n` +
      `        sigma=${spread},\n    ),\n`,
    ] : [
      "# Non-centered, for all groups alike: Bambi has no mixed form.\n" +
      '# A group\'s log odds are "Intercept" and its "1|group" together, their spread is ' +
      '"1|group_sigma".\n',
      "p(successes, trials) ~ 1 + (1|group)",
      `    "Intercept": bmb.Prior("Normal", mu=${number(mean)}, sigma=${number(sd)}),\n` +
      `    "1|group": bmb.Prior("Normal", mu=0, sigma=${spread}),\n`,
    ];
    return "import arviz as az\nimport bambi as bmb\nimport numpy as np\nimport pandas as pd\n\n" +
      `${pythonData(recipe)}\n` +
      'data = pd.DataFrame({"group": group, "successes": successes, "trials": trials})\n' +
      `${comment}priors = {\n${priors}}\n` +
      "model = bmb.Model(\n" +
      `    "${formula}", data, family="binomial", priors=priors, ` +
      `noncentered=${centered ? "False" : "True"}\n)\n\n` +
      'if __name__ == "__main__":\n' +
      `    fit = model.fit(target_accept=${recipe.target}, random_seed=1)\n` +
      "    print(az.summary(fit))\n";
  }

  function brms(recipe) {
    const { mean, sd } = recipe.alphaPrior, data = recipe.counts, { quoted } = counts.numbers;
    let frame;
    if (inline(recipe)) {
      const names = data.group.map((name) => `    ${quoted(name)}`).join(",\n");
      frame = `data <- data.frame(\n  group = c(\n${names}\n  ),\n` +
        `  successes = c(${data.successes.join(", ")}),\n` +
        `  trials = c(${data.trials.join(", ")})\n)\n`;
    } else {
      const [path, called, separator] = source(data);
      frame = `${whereFrom(data)}table <- read.csv(${quoted(path)}, sep = ${quoted(separator)},\n` +
        "                  check.names = FALSE, strip.white = TRUE,\n" +
        `                  colClasses = c(${quoted(called.group)} = "character"))\n` +
        "data <- data.frame(\n" +
        `  group = table[[${quoted(called.group)}]],\n` +
        `  successes = table[[${quoted(called.successes)}]],\n` +
        `  trials = table[[${quoted(called.trials)}]]\n)\n`;
    }
    return `library(brms)\n\n${frame}\n` +
      "# brms is always non-centered: a group's log odds are Intercept and r_group together.\n" +
      "fit <- brm(\n" +
      "  successes | trials(trials) ~ 1 + (1 | group),\n" +
      "  data = data, family = binomial(),\n" +
      "  prior = c(\n" +
      `    prior(normal(${number(mean)}, ${number(sd)}), class = "Intercept"),\n` +
      `    prior(${inStan(recipe.sigmaPrior)}, class = "sd")\n` +
      "  ),\n" +
      "  control = list(adapt_delta = 0.95), seed = 1\n)\n" +
      "print(summary(fit))\n";
  }

  /** Program for "pymc", "bambi" or "brms" from a report's recipe. */
  function program(tool, recipe) {
    const written = { pymc, bambi, brms };
    if (!Object.hasOwn(written, tool)) {
      throw new counts.Refused(`There is no program for ${tool}; choose one of pymc, bambi, brms.`);
    }
    return written[tool](recipe);
  }

  counts.program = program;
  if (typeof module === "object") module.exports = explorer;
})((globalThis.fieldguideExplorer ??= {}));
