# The trial's model in brms and the three districts in Stan, written as JSON to standard output:
#   Rscript data/r_trial.R > fits.json          (run from the project's root; about a quarter of an hour)
#   Rscript data/r_trial.R quick                (a few of the fits, to see whether they are still the same)
# The parts between "# [name]" and "# [end]" are shown in the book, word for word, and run here;
# "# [name: package]" says which package's version stands below it, where the part does not name it.
# data/r_trial.json holds what this printed, with the versions.
suppressPackageStartupMessages({library(brms); library(rstan); library(jsonlite)})
quick <- "quick" %in% commandArgs(trailingOnly = TRUE)
cores <- max(1L, parallel::detectCores(), na.rm = TRUE)
options(mc.cores = 1)  # the chains of a fit one after the other; several fits at the same time
if (dir.exists("/usr/include/boost")) rstan_options(boost_lib = "/usr/include")  # Debian's R has no BH
say <- function(...) cat(format(Sys.time(), "%H:%M:%S "), ..., "\n", sep = "", file = stderr())
started <- proc.time()[["elapsed"]]
sink(stderr())  # what the parts print; the JSON comes last

# --------------------------------------------------------------------------------------------
# The question's generator, and what it does with a probability below zero

# [generator]
sites <- data.frame(
  site = c("A", "B", "C", "D", "E"),
  n = c(30, 300, 50, 20, 100),
  baseline = c(0.10, 0.15, 0.01, 0.05, 0.10),
  effect = c(0.0, 0.1, 0.2, -0.1, 0.1)
)
simulate_people <- function(sites) {
  people <- sites[rep(seq_len(nrow(sites)), sites$n), ]
  # every n is even, so both arms of a site are of one size
  people$intervention <- rep(0:1, length.out = nrow(people))
  p <- people$baseline + people$effect * people$intervention
  people$outcome <- as.integer(runif(nrow(people)) < p)  # never, if p < 0
  people[c("site", "intervention", "outcome")]
}
# [end]

# [valid]
valid_sites <- transform(
  sites, baseline = ifelse(site == "D", 0.15, baseline)
)
simulate_counts <- function(sites, multiply = 1) {
  arms <- merge(sites, data.frame(intervention = 0:1))
  arms <- transform(
    arms, n = n * multiply / 2, p = baseline + effect * intervention
  )
  stopifnot(arms$p >= 0, arms$p <= 1)  # a site that cannot exist stops here
  arms$successes <- rbinom(nrow(arms), arms$n, arms$p)
  arms[c("site", "intervention", "successes", "n")]
}
# [end]

set.seed(1)
never <- 0
for (i in 1:1000) {
  people <- simulate_people(sites)
  never <- never + sum(people$outcome[people$site == "D" & people$intervention == 1])
}
refused <- inherits(try(simulate_counts(sites), silent = TRUE), "try-error")
generator <- list(trials = 1000, successes_of_treated_at_D = never, refused_by_the_check = refused)

# --------------------------------------------------------------------------------------------
# The reply, as it would be pasted

# [reply]
library(brms)
trial <- data.frame(
  site = rep(c("A", "B", "C", "D", "E"), times = 2),
  intervention = rep(0:1, each = 5),
  successes = c(2, 29, 0, 0, 6, 1, 46, 4, 0, 7),
  n = rep(c(15, 150, 25, 10, 50), times = 2)
)
fit <- brm(
  successes | trials(n) ~ intervention + (1 + intervention | site),
  data = trial, family = binomial(),
  prior = prior(normal(-1, 1), class = Intercept) +
    prior(normal(0, 1), class = b) +
    prior(normal(0, 0.5), class = sd) +
    prior(lkj_corr_cholesky(4), class = L),
  control = list(adapt_delta = 0.95), seed = 1, refresh = 0
)
# [end]
say("the reply is fitted")

# [average]
average_effect <- function(fit, cells, probs = c(0.055, 0.5, 0.945)) {
  average <- function(arm) {
    # n = 1: probabilities instead of counts
    everyone <- transform(cells, intervention = arm, n = 1)
    p <- posterior_epred(fit, newdata = everyone)  # draws by cells
    drop(p %*% (cells$n / sum(cells$n)))
  }
  control <- average(0)
  treated <- average(1)
  draws <- cbind(
    risk_difference = treated - control,
    marginal_log_odds_ratio = qlogis(treated) - qlogis(control)
  )
  cbind(mean = colMeans(draws), t(apply(draws, 2, quantile, probs)))
}
cells <- aggregate(n ~ site, trial, sum)  # participants, both arms
average_effect(fit, cells)
# [end]
average <- average_effect(fit, cells)

# [sites]
in_arm <- function(arm) {
  sites <- transform(cells, intervention = arm, n = 1)
  posterior_epred(fit, newdata = sites)
}
difference <- in_arm(1) - in_arm(0)  # of the probabilities: draws by sites
colnames(difference) <- cells$site
posterior_summary(difference, probs = c(0.055, 0.945))
# log odds ratios:
coef(fit, probs = c(0.055, 0.945))$site[, , "intervention"]
# [end]
of_sites <- list(difference = posterior_summary(difference, probs = c(0.055, 0.945)),
                 log_odds_ratio = coef(fit, probs = c(0.055, 0.945))$site[, , "intervention"])

# [priors]
prior_summary(fit)  # which prior brms gave to what
only_priors <- update(fit, sample_prior = "only", refresh = 0)
terms <- c(
  "sd_site__Intercept", "sd_site__intervention",
  "cor_site__Intercept__intervention"
)
limits <- c(0.055, 0.945)
list(
  prior = posterior_summary(only_priors, variable = terms, probs = limits),
  posterior = posterior_summary(fit, variable = terms, probs = limits)
)
# [end]
priors <- list(prior = posterior_summary(only_priors, variable = terms, probs = limits),
               posterior = posterior_summary(fit, variable = terms, probs = limits))

# One person in three belongs to the second stratum, whose log odds of success are higher by 0.5.
set.seed(1)
people <- valid_sites[rep(seq_len(nrow(valid_sites)), valid_sites$n), ]
people$intervention <- rep(0:1, length.out = nrow(people))
people$stratum <- ifelse(runif(nrow(people)) < 1 / 3, "older", "younger")
p <- with(people, plogis(qlogis(baseline + effect * intervention) + 0.5 * (stratum == "older")))
people$outcome <- as.integer(runif(nrow(people)) < p)

# [covariate]
# people: a row per participant, with site, intervention, stratum, outcome
by_stratum <- aggregate(  # one row per site, arm and stratum
  cbind(successes = outcome, n = 1) ~ site + intervention + stratum,
  people, sum
)
fit_strata <- update(
  fit, . ~ . + stratum, newdata = by_stratum, seed = 1, refresh = 0
)
cells <- aggregate(n ~ site + stratum, by_stratum, sum)
average_effect(fit_strata, cells)
# [end]
strata <- average_effect(fit_strata, cells)
say("the snippets have run")

# [versions]
R.version.string
sapply(
  c("brms", "rstan", "StanHeaders"),
  function(name) as.character(packageVersion(name))
)
# [end]

# --------------------------------------------------------------------------------------------
# The grid: one compiled model for each layout of the data, with the scale of the sds as data

grid_prior <- prior(normal(-1, 1), class = Intercept) + prior(normal(0, 1), class = b) +
  prior(normal(0, sd_scale), class = sd) + prior(lkj_corr_cholesky(4), class = L)
as_people <- function(arms) {
  rows <- arms[rep(seq_len(nrow(arms)), arms$n), c("site", "intervention")]
  rows$outcome <- unlist(Map(function(y, n) rep(1:0, c(y, n - y)), arms$successes, arms$n))
  rows
}
layouts <- list(
  counts = list(formula = successes | trials(n) ~ intervention + (1 + intervention | site),
                family = binomial(), shape = identity),
  rows = list(formula = outcome ~ intervention + (1 + intervention | site),
              family = bernoulli(), shape = as_people)
)
scale_as_data <- function(scale) stanvar(scale, name = "sd_scale")
for (name in names(layouts)) {
  layouts[[name]]$model <- with(layouts[[name]], brm(
    formula, shape(trial), family, grid_prior, stanvars = scale_as_data(0.5), chains = 0))
  say("compiled: ", name)
}

trials <- list("question x1" = trial)
for (seed in 1:5) for (multiply in c(1, 4, 16)) {
  set.seed(seed)
  trials[[paste0(seed, " x", multiply)]] <- simulate_counts(valid_sites, multiply)
}
counts <- lapply(trials, function(arms) {
  pairs <- lapply(split(arms, arms$site), function(site) site$successes[order(site$intervention)])
  pairs[sort(names(pairs))]
})
names(counts) <- sub(" x1$", "", names(counts))

quantities <- function(draws, n) {  # draws: iteration x chain x parameter
  at <- function(name) draws[, , name]
  sites <- seq_along(n)
  theta <- lapply(sites, function(j) at("b_Intercept") + at(sprintf("r_1_1[%d]", j)))
  delta <- lapply(sites, function(j) at("b[1]") + at(sprintf("r_1_2[%d]", j)))
  weighted <- function(values) Reduce(`+`, Map(`*`, values, n / sum(n)))
  control <- weighted(lapply(theta, plogis))
  treated <- weighted(Map(function(a, b) plogis(a + b), theta, delta))
  list(
    shown = list(intercept = at("Intercept"), effect = at("b[1]"), sd_intercept = at("sd_1[1]"),
                 sd_effect = at("sd_1[2]"), corr = at("cor_1[1]"),
                 risk_difference = treated - control,
                 marginal_log_odds_ratio = qlogis(treated) - qlogis(control)),
    site_effects = delta
  )
}
diagnostics <- function(fit, variables) {
  run <- do.call(rbind, get_sampler_params(fit, inc_warmup = FALSE))
  list(divergences = sum(run[, "divergent__"]), gradients = sum(run[, "n_leapfrog__"]),
       stepsize = mean(sapply(get_sampler_params(fit, inc_warmup = FALSE),
                              function(chain) chain[1, "stepsize__"])),
       seconds = sum(get_elapsed_time(fit)),
       rhat = max(sapply(variables, posterior::rhat)),
       ess_bulk = min(sapply(variables, posterior::ess_bulk)),
       ess_tail = min(sapply(variables, posterior::ess_tail)))
}
summaries <- function(variables) {
  row <- list()
  for (name in names(variables)) {
    values <- variables[[name]]
    limits <- quantile(values, c(0.025, 0.975, 0.055, 0.945), names = FALSE)
    row[[paste0("mean:", name)]] <- mean(values)
    row[[paste0("mcse:", name)]] <- posterior::mcse_mean(values)
    row[[paste0("sd:", name)]] <- sd(values)
    row[[paste0("low:", name)]] <- limits[1]
    row[[paste0("high:", name)]] <- limits[2]
    row[[paste0("low89:", name)]] <- limits[3]
    row[[paste0("high89:", name)]] <- limits[4]
  }
  row
}
rounded <- function(row) lapply(row, function(x) if (is.numeric(x)) signif(x, 5) else x)

one_trial <- function(cell) {
  layout <- layouts[[cell$layout]]
  arms <- trials[[paste0(cell$data, " x", cell$multiply)]]
  input <- make_standata(layout$formula, layout$shape(arms), layout$family, grid_prior,
                         stanvars = scale_as_data(cell$sd_scale))
  fit <- suppressWarnings(sampling(
    layout$model$fit@stanmodel, data = input, seed = cell$seed, refresh = 0,
    control = list(adapt_delta = cell$adapt_delta)))
  n <- tapply(arms$n, arms$site, sum)
  found <- quantities(as.array(fit), as.numeric(n[sort(names(n))]))
  row <- c(as.list(cell), diagnostics(fit, c(found$shown, found$site_effects)),
           summaries(found$shown), list("below_0.1" = mean(found$shown$sd_effect < 0.1)))
  say(paste(names(cell), unlist(cell), collapse = ", "), ": ", row$divergences, " divergences")
  rounded(row)
}
cross <- function(...) expand.grid(..., stringsAsFactors = FALSE)
deltas <- c(0.8, 0.9, 0.95, 0.99)
columns <- c("data", "layout", "multiply", "sd_scale", "adapt_delta", "seed")
design <- if (quick) rbind(
  cross(data = "question", layout = "counts", multiply = 1, sd_scale = 0.5,
        adapt_delta = c(0.8, 0.95), seed = 1)[columns],
  cross(data = "question", layout = "rows", multiply = 1, sd_scale = 0.5, adapt_delta = 0.8,
        seed = 1)[columns]
) else rbind(
  cross(data = "question", layout = "counts", multiply = 1, sd_scale = c(0.2, 0.5, 1),
        adapt_delta = deltas, seed = 1:4)[columns],
  cross(data = as.character(1:5), layout = "counts", multiply = 1, sd_scale = c(0.2, 0.5, 1),
        adapt_delta = deltas, seed = 1)[columns],
  cross(data = as.character(1:5), layout = "counts", multiply = c(4, 16),
        sd_scale = c(0.2, 0.5, 1), adapt_delta = c(0.8, 0.95), seed = 1)[columns],
  cross(data = "question", layout = "rows", multiply = 1, sd_scale = c(0.2, 0.5, 1),
        adapt_delta = deltas, seed = 1)[columns],
  cross(data = as.character(1:3), layout = "rows", multiply = 1, sd_scale = 0.5,
        adapt_delta = c(0.8, 0.95), seed = 1)[columns],
  cross(data = "1", layout = "rows", multiply = 4, sd_scale = 0.5, adapt_delta = c(0.8, 0.95),
        seed = 1)[columns]
)
each <- function(design, make) {
  cells <- lapply(seq_len(nrow(design)), function(i) as.list(design[i, ]))
  made <- parallel::mclapply(cells, make, mc.cores = min(cores, 8), mc.preschedule = FALSE)
  failed <- sapply(made, inherits, "try-error")
  if (any(failed)) stop(made[failed][[1]])
  made
}
brms_rows <- each(design, one_trial)

# What brms itself adds to a fit: the same fit by update(recompile = FALSE) and by sampling().
timed <- function(expr) system.time(suppressWarnings(expr))[["elapsed"]]
again <- function(seed) update(
  layouts$counts$model, newdata = trial, seed = seed, chains = 4, iter = 2000, refresh = 0,
  control = list(adapt_delta = 0.95), recompile = FALSE)
timing <- list(fits = if (quick) 1 else 5)
timing$update <- mean(sapply(seq_len(timing$fits), function(seed) timed(again(seed))))

# --------------------------------------------------------------------------------------------
# The three districts in Stan

# [stan_centered: rstan]
centered <- "
data {
  int<lower=1> J;
  int<lower=0> users[J];
  int<lower=0> women[J];
}
parameters {
  real alpha_bar;
  real<lower=0> sigma;
  vector[J] alpha;
}
model {
  alpha_bar ~ normal(0, 1.5);
  sigma ~ exponential(1);
  alpha ~ normal(alpha_bar, sigma);
  users ~ binomial_logit(women, alpha);
}"
# [end]

# [stan_non_centered: rstan]
non_centered <- "
data {
  int<lower=1> J;
  int<lower=0> users[J];
  int<lower=0> women[J];
}
parameters {
  real alpha_bar;
  real<lower=0> sigma;
  vector[J] z;
}
transformed parameters {
  vector[J] alpha = alpha_bar + sigma * z;
}
model {
  alpha_bar ~ normal(0, 1.5);
  sigma ~ exponential(1);
  z ~ std_normal();
  users ~ binomial_logit(women, alpha);
}"
# [end]

districts <- list(J = 3, users = c(30, 7, 2), women = c(117, 20, 2))
forms <- list(centered = stan_model(model_code = centered),
              "non-centered" = stan_model(model_code = non_centered))
say("compiled: both forms of the districts")

one_district_fit <- function(cell) {
  fit <- suppressWarnings(sampling(
    forms[[cell$form]], data = districts, seed = cell$seed, refresh = 0,
    control = list(adapt_delta = cell$adapt_delta)))
  draws <- as.array(fit)
  names <- c("alpha_bar", "sigma", sprintf("alpha[%d]", 1:3))
  shown <- setNames(lapply(names, function(name) draws[, , name]), names)
  row <- c(list(form = cell$form, prior = "Exponential(1)", adapt_delta = cell$adapt_delta,
                seed = cell$seed), diagnostics(fit, shown), summaries(shown),
           list("below_0.1" = mean(shown$sigma < 0.1)))
  say(cell$form, ", adapt_delta ", cell$adapt_delta, ", seed ", cell$seed, ": ",
      row$divergences, " divergences")
  rounded(row)
}
district_rows <- each(
  cross(form = names(forms), adapt_delta = if (quick) c(0.8, 0.99) else deltas,
        seed = if (quick) 1 else 1:8), one_district_fit)

named_rows <- function(table) {
  colnames(table) <- sub("^Q?([0-9.]+)%?$", "\\1%", colnames(table))
  apply(signif(table, 5), 1, as.list)
}
versions <- c(R = as.character(getRversion()), sapply(
  c("brms", "rstan", "StanHeaders", "posterior"), function(name) as.character(packageVersion(name))))
run <- do.call(rbind, get_sampler_params(fit$fit, inc_warmup = FALSE))
sink()
cat(toJSON(list(
  versions = as.list(versions), generator = generator,
  reply = list(divergences = sum(run[, "divergent__"]), average = named_rows(average),
               sites = lapply(of_sites, named_rows),
               prior = named_rows(priors$prior), posterior = named_rows(priors$posterior)),
  strata = list(cells = nrow(by_stratum), average = named_rows(strata),
                effect = as.list(signif(fixef(fit_strata, probs = limits)["stratumyounger", ], 5))),
  counts = counts, timing = lapply(timing, signif, 4), brms = brms_rows, districts = district_rows,
  minutes = signif((proc.time()[["elapsed"]] - started) / 60, 3)
), auto_unbox = TRUE, digits = NA), "\n")
