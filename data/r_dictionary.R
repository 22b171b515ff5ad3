# Three models in brms, rstanarm, lme4 and Stan, and what each tool does unasked, written as JSON to
# standard output:
#   Rscript data/r_dictionary.R > fits.json && mv fits.json data/r_dictionary.json    (some twenty minutes)
#   Rscript data/r_dictionary.R quick      (what a test asks: one program is compiled; two minutes)
# Run it from the project's root. The parts between "# [name]" and "# [end]" are shown in the book, word
# for word, and run here; "# [name: package]" says which package's version stands below it, where the
# part does not name it. "code" in the JSON is a digest of this file without its comments: a test fails
# until the JSON is that of the script.
suppressPackageStartupMessages({
  library(lme4); library(brms); library(rstanarm); library(rstan); library(jsonlite)
})
quick <- "quick" %in% commandArgs(trailingOnly = TRUE)
options(mc.cores = max(1L, parallel::detectCores(), na.rm = TRUE))
if (dir.exists("/usr/include/boost")) rstan_options(boost_lib = "/usr/include")  # Debian's R has no BH
say <- function(...) cat(format(Sys.time(), "%H:%M:%S "), ..., "\n", sep = "", file = stderr())
started <- proc.time()[["elapsed"]]
sink(stderr())  # what the parts print; the JSON comes last

script <- readLines("data/r_dictionary.R")
part <- function(name) {  # the code of a part, to be run once more in another way
  from <- grep(sprintf("^# \\[%s(: .*)?\\]$", name), script)
  to <- grep("^# \\[end\\]$", script)
  parse(text = script[(from + 1):(min(to[to > from]) - 1)])
}
otherwise <- function(name, ...) {  # what a part calls its fit, where some functions are other ones
  place <- list2env(list(...), parent = globalenv())
  suppressMessages(suppressWarnings(eval(part(name), place)))
  place$fit
}
lines_of <- function(code, pattern) {
  I(trimws(grep(pattern, unlist(strsplit(code, "\n")), value = TRUE)))
}

of_draws <- function(values) {  # values: named matrices, iteration by chain
  lapply(values, function(x) list(mean = mean(x), mcse = posterior::mcse_mean(x), sd = sd(x)))
}
control_of <- function(stanfit) {  # what the sampler was told, in the end
  attr(stanfit@sim$samples[[1]], "args")$control[c("adapt_delta", "max_treedepth")]
}
found <- function(stanfit, values) list(
  means = of_draws(values), divergences = get_num_divergent(stanfit),
  rhat = max(sapply(values, posterior::rhat)), control = control_of(stanfit))
means <- list(districts = list(), trial = list(), schools = list())
seen <- list()

# --------------------------------------------------------------------------------------------
# The data

# [districts: R]
districts <- data.frame(
  users = c(30, 7, 2), women = c(117, 20, 2), district = factor(1:3)
)
# [end]

# [trial: R]
trial <- data.frame(
  site = rep(c("A", "B", "C", "D", "E"), times = 2),
  intervention = rep(0:1, each = 5),
  successes = c(2, 29, 0, 0, 6, 1, 46, 4, 0, 7),
  n = rep(c(15, 150, 25, 10, 50), times = 2)
)
# [end]

# [schools: R]
schools <- read.csv("data/schools.csv")[c("math", "ses", "school")]
schools <- subset(schools, school %in% unique(school)[1:40])
schools$school <- factor(schools$school)
# [end]

# --------------------------------------------------------------------------------------------
# lme4

figures <- function(fit, names) {  # fixed effects, sds, correlation, residual sd, in this order
  vc <- VarCorr(fit)[[1]]
  sds <- attr(vc, "stddev")
  found <- c(fixef(fit), sds, if (length(sds) > 1) attr(vc, "correlation")[1, 2],
             if (isLMM(fit)) sigma(fit))
  lapply(setNames(as.list(unname(found)), names), function(x) list(mean = x))
}
of_trial <- c("intercept", "effect", "sd_intercept", "sd_effect", "corr")
of_schools <- c("intercept", "slope", "sd_intercept", "sd_slope", "correlation", "sigma")

# [districts_lme4]
library(lme4)
fit <- glmer(
  cbind(users, women - users) ~ 1 + (1 | district),
  data = districts, family = binomial(), nAGQ = 25
)
# [end]

# [read_lme4: lme4]
isSingular(fit)                      # a spread of zero?
fit@optinfo$conv$lme4$messages       # what the optimiser complained of
fixef(fit)                           # the mean of the districts, in logits
VarCorr(fit)                         # their standard deviation
coef(fit)$district                   # each district
# [end]
alpha <- coef(fit)$district[["(Intercept)"]]
means$districts$lme4 <- list(means = c(figures(fit, c("alpha_bar", "sigma")), list(
  "alpha[1]" = list(mean = alpha[1]), "alpha[2]" = list(mean = alpha[2]),
  "alpha[3]" = list(mean = alpha[3]))), singular = isSingular(fit))

# [trial_lme4]
library(lme4)
fit <- glmer(
  cbind(successes, n - successes) ~ intervention +
    (1 + intervention | site),
  data = trial, family = binomial()
)
# [end]
centred <- figures(fit, of_trial)
centred$intercept$mean <- centred$intercept$mean + mean(trial$intervention) * centred$effect$mean
means$trial$lme4 <- list(means = centred, singular = isSingular(fit))
refused <- tryCatch(update(fit, nAGQ = 25), error = conditionMessage)

# [schools_lme4]
library(lme4)
fit <- lmer(math ~ ses + (ses | school), data = schools)
# [end]
means$schools$lme4 <- list(means = figures(fit, of_schools), singular = isSingular(fit))
seen$lme4 <- list(nAGQ = formals(glmer)$nAGQ, REML = formals(lmer)$REML, refused = refused)
say("lme4")

# --------------------------------------------------------------------------------------------
# rstanarm

matrix_of <- function(fit, name) as.array(fit)[, , name]
of_two <- function(fit, group, slope, at) {  # a fit with varying intercept and slope
  cell <- function(a, b) matrix_of(fit, sprintf("Sigma[%s:%s,%s]", group, a, b))
  beta <- matrix_of(fit, slope)
  sds <- lapply(c("(Intercept)", slope), function(term) sqrt(cell(term, term)))
  c(list(matrix_of(fit, "(Intercept)") + at * beta, beta), sds,
    list(cell(slope, "(Intercept)") / (sds[[1]] * sds[[2]])))
}

# [districts_rstanarm]
library(rstanarm)
fit <- stan_glmer(
  cbind(users, women - users) ~ 1 + (1 | district),
  data = districts, family = binomial(),
  prior_intercept = normal(0, 1.5),
  prior_covariance = decov(shape = 1, scale = 1),
  adapt_delta = 0.99, seed = 1
)
# [end]

# [read_rstanarm: rstanarm, rstan]
rstan::check_hmc_diagnostics(fit$stanfit)     # divergences, depth, energy
summary(fit)[, c("mean", "mcse", "sd", "Rhat")]
draws <- as.data.frame(fit)                   # a row per draw
mean(draws[["(Intercept)"]])                  # of the districts, in logits
sds <- sqrt(draws[["Sigma[district:(Intercept),(Intercept)]"]])
mean(sds)                                     # Sigma holds variances
prior_summary(fit)
# [end]
at_zero <- matrix_of(fit, "(Intercept)")
deviation <- function(j) matrix_of(fit, sprintf("b[(Intercept) district:%d]", j))
means$districts$rstanarm <- found(fit$stanfit, list(
  alpha_bar = at_zero, sigma = sqrt(matrix_of(fit, "Sigma[district:(Intercept),(Intercept)]")),
  "alpha[1]" = at_zero + deviation(1), "alpha[2]" = at_zero + deviation(2),
  "alpha[3]" = at_zero + deviation(3)))
seen$rstanarm <- list(names = I(dimnames(as.array(fit))$parameters),
                      code = lines_of(fit$stanfit@stanmodel@model_code, "make_b|gamma\\[1\\] - dot_product"))

# [trial_rstanarm]
library(rstanarm)
fit <- stan_glmer(
  cbind(successes, n - successes) ~ intervention +
    (1 + intervention | site),
  data = trial, family = binomial(),
  prior_intercept = normal(-1, 1), prior = normal(0, 1),
  prior_covariance = decov(regularization = 4, shape = 1, scale = 0.4),
  seed = 1
)
# [end]
means$trial$rstanarm <- found(fit$stanfit, setNames(
  of_two(fit, "site", "intervention", mean(trial$intervention)), of_trial))
seen$rstanarm$control <- control_of(fit$stanfit)
seen$rstanarm$intercept <- lines_of(capture.output(prior_summary(fit)), "^Intercept")
unasked <- otherwise("trial_rstanarm", stan_glmer = function(
    ..., prior, prior_intercept, prior_covariance, seed) {
  rstanarm::stan_glmer(..., chains = 1, iter = 50, seed = 1, refresh = 0)
})
seen$rstanarm$defaults <- lapply(prior_summary(unasked)[c("prior", "prior_intercept", "prior_covariance")],
                                 function(prior) lapply(prior, as.vector))
say("rstanarm")

if (!quick) {
# [schools_rstanarm]
library(rstanarm)
fit <- stan_lmer(
  math ~ ses + (ses | school), data = schools,
  prior_intercept = normal(0, 20), prior = normal(0, 20),
  prior_aux = normal(0, 10),
  prior_covariance = decov(regularization = 2, shape = 1, scale = 0.7),
  seed = 1
)
# [end]
means$schools$rstanarm <- found(fit$stanfit, setNames(
  c(of_two(fit, "school", "ses", 0), list(matrix_of(fit, "sigma"))), of_schools))
say("rstanarm: schools")
}
continuous <- unlist(strsplit(rstanarm:::stanmodels$continuous@model_code, "\n"))
seen$rstanarm$scaled <- I(trimws(continuous[grep("make_theta_L\\(len", continuous) + 0:1]))

# --------------------------------------------------------------------------------------------
# Stan, by rstan

at <- function(fit, name) as.array(fit)[, , name]

# [districts_stan]
library(rstan)
program <- "
data {
  int<lower=1> J;
  int<lower=0> users[J];  // array[J] int<lower=0> users; since 2.33
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
fit <- stan(
  model_code = program,
  data = list(J = 3, users = c(30, 7, 2), women = c(117, 20, 2)),
  control = list(adapt_delta = 0.99), seed = 1
)
# [end]

# [read_stan: rstan]
check_hmc_diagnostics(fit)     # divergences, depth, energy
print(fit, pars = c("alpha_bar", "sigma", "alpha"))
draws <- rstan::extract(fit)   # a list; chains are mixed
mean(draws$sigma)
as.array(fit)[, , "sigma"]     # draws by chains
# [end]
names <- c("alpha_bar", "sigma", sprintf("alpha[%d]", 1:3))
means$districts$Stan <- found(fit, lapply(setNames(nm = names), function(name) at(fit, name)))
again <- suppressWarnings(sampling(get_stanmodel(fit), data = list(
  J = 3, users = c(30, 7, 2), women = c(117, 20, 2)), chains = 1, iter = 200, seed = 1, refresh = 0))
seen$Stan <- list(control = control_of(again), chains = fit@sim$chains, iter = fit@sim$iter)
say("Stan")

if (!quick) {
# [trial_stan]
library(rstan)
program <- "
data {
  int<lower=1> N;
  int<lower=1> J;
  int<lower=0> successes[N];  // array[N] int; since Stan 2.33
  int<lower=0> n[N];
  vector[N] intervention;
  int<lower=1, upper=J> site[N];
}
transformed data {
  vector[N] x = intervention - mean(intervention);
}
parameters {
  real intercept;  // half-way between the arms
  real effect;
  vector<lower=0>[2] tau;
  cholesky_factor_corr[2] L;
  matrix[2, J] z;
}
transformed parameters {
  matrix[2, J] u = diag_pre_multiply(tau, L) * z;
}
model {
  intercept ~ normal(-1, 1);
  effect ~ normal(0, 1);
  tau ~ normal(0, 0.5);
  L ~ lkj_corr_cholesky(4);
  to_vector(z) ~ std_normal();
  successes ~ binomial_logit(
    n, intercept + effect * x + u[1, site]' + u[2, site]' .* intervention
  );
}
generated quantities {
  real corr = multiply_lower_tri_self_transpose(L)[1, 2];
}"
fit <- stan(
  model_code = program,
  data = c(
    list(N = nrow(trial), J = 5, site = as.integer(factor(trial$site))),
    trial[c("successes", "n", "intervention")]
  ),
  control = list(adapt_delta = 0.95), seed = 1
)
# [end]
means$trial$Stan <- found(fit, setNames(lapply(
  c("intercept", "effect", "tau[1]", "tau[2]", "corr"), function(name) at(fit, name)), of_trial))
say("Stan: trial")

# [schools_stan]
library(rstan)
program <- "
data {
  int<lower=1> N;
  int<lower=1> J;
  vector[N] math;
  vector[N] ses;
  int<lower=1, upper=J> school[N];  // array[N] int; since Stan 2.33
}
parameters {
  real intercept;
  real slope;
  vector<lower=0>[2] tau;
  cholesky_factor_corr[2] L;
  matrix[2, J] z;
  real<lower=0> sigma;
}
transformed parameters {
  matrix[2, J] u = diag_pre_multiply(tau, L) * z;
}
model {
  intercept ~ normal(0, 20);
  slope ~ normal(0, 20);
  tau ~ normal(0, 5);
  L ~ lkj_corr_cholesky(2);
  to_vector(z) ~ std_normal();
  sigma ~ normal(0, 10);
  math ~ normal(
    intercept + slope * ses + u[1, school]' + u[2, school]' .* ses, sigma
  );
}
generated quantities {
  real correlation = multiply_lower_tri_self_transpose(L)[1, 2];
}"
fit <- stan(
  model_code = program,
  data = list(
    N = nrow(schools), J = nlevels(schools$school), math = schools$math,
    ses = schools$ses, school = as.integer(schools$school)
  ),
  seed = 1
)
# [end]
means$schools$Stan <- found(fit, setNames(lapply(
  c("intercept", "slope", "tau[1]", "tau[2]", "correlation", "sigma"),
  function(name) at(fit, name)), of_schools))
say("Stan: schools")
}

# --------------------------------------------------------------------------------------------
# brms

of_brms <- function(fit, names) {
  drawn <- posterior::as_draws_array(fit)
  lapply(names, function(name) posterior::extract_variable_matrix(drawn, name))
}

if (!quick) {
# [districts_brms]
library(brms)
fit <- brm(
  users | trials(women) ~ 1 + (1 | district),
  data = districts, family = binomial(),
  prior = prior(normal(0, 1.5), class = Intercept) +
    prior(exponential(1), class = sd),
  control = list(adapt_delta = 0.99), seed = 1
)
# [end]

# [read_brms: brms, posterior]
library(posterior)
rstan::check_hmc_diagnostics(fit$fit)   # divergences, depth, energy
summarise_draws(as_draws(fit), "mean", "mcse_mean", "sd", "rhat")
draws <- as_draws_df(fit)               # a row per draw
mean(draws$b_Intercept)                 # of the districts, in logits
mean(draws$sd_district__Intercept)
coef(fit)$district                      # each district
prior_summary(fit)
stancode(fit)                           # what brms wrote
# [end]
drawn <- of_brms(fit, c("b_Intercept", "sd_district__Intercept", sprintf("r_district[%d,Intercept]", 1:3)))
means$districts$brms <- found(fit$fit, list(
  alpha_bar = drawn[[1]], sigma = drawn[[2]], "alpha[1]" = drawn[[1]] + drawn[[3]],
  "alpha[2]" = drawn[[1]] + drawn[[4]], "alpha[3]" = drawn[[1]] + drawn[[5]]))
names_in_brms <- variables(fit)
compiled <- fit
unasked <- otherwise("districts_brms", brm = function(..., prior, control, seed) {
  brms::brm(..., fit = compiled, chains = 1, iter = 200, seed = 1, refresh = 0)
})
control_of_brms <- control_of(unasked$fit)
say("brms")

# [trial_brms]
library(brms)
fit <- brm(
  successes | trials(n) ~ intervention + (1 + intervention | site),
  data = trial, family = binomial(),
  prior = prior(normal(-1, 1), class = Intercept) +
    prior(normal(0, 1), class = b) +
    prior(normal(0, 0.5), class = sd) +
    prior(lkj(4), class = cor),
  control = list(adapt_delta = 0.95), seed = 1
)
# [end]
drawn <- of_brms(fit, c("b_Intercept", "b_intervention", "sd_site__Intercept", "sd_site__intervention",
                        "cor_site__Intercept__intervention"))
drawn[[1]] <- drawn[[1]] + mean(trial$intervention) * drawn[[2]]
means$trial$brms <- found(fit$fit, setNames(drawn, of_trial))
say("brms: trial")

# [schools_brms]
library(brms)
fit <- brm(
  math ~ ses + (ses | school), data = schools,
  prior = prior(normal(0, 20), class = Intercept) +
    prior(normal(0, 20), class = b) +
    prior(normal(0, 5), class = sd) + prior(lkj(2), class = cor) +
    prior(normal(0, 10), class = sigma),
  seed = 1
)
# [end]
means$schools$brms <- found(fit$fit, setNames(of_brms(fit, c(
  "b_Intercept", "b_ses", "sd_school__Intercept", "sd_school__ses", "cor_school__Intercept__ses",
  "sigma")), of_schools))
say("brms: schools")
}

# [priors_brms]
library(brms)
# which priors are there to set, and what stands in their place?
get_prior(
  successes | trials(n) ~ intervention + (1 + intervention | site),
  data = trial, family = binomial()
)
# the prior where the predictor is zero, and not at its mean:
at_zero <- brmsformula(
  successes | trials(n) ~ 0 + Intercept + intervention +
    (1 + intervention | site)
)
priors <- prior(normal(-1, 1), class = b, coef = Intercept) +
  prior(normal(0, 1), class = b)
# [end]
written <- function(name) otherwise(name, brm = function(..., control, seed) make_stancode(...))
listed <- get_prior(successes | trials(n) ~ intervention + (1 + intervention | site), trial, binomial())
of_zero <- make_stancode(at_zero, trial, binomial(), prior = priors)
seen$brms <- list(
  districts = lines_of(written("districts_brms"), "r_1_1 = |_lpdf|_lccdf"),
  trial = lines_of(written("trial_brms"), "r_1 = |_lpdf|_lccdf|means_X\\[|b_Intercept = "),
  schools = lines_of(written("schools_brms"), "r_1 = |_lpdf|_lccdf|means_X\\[|b_Intercept = "),
  at_zero = lines_of(of_zero, "means_X|normal_lpdf\\(b"),
  priors = with(listed[listed$source == "default" & listed$prior != "", ], setNames(as.list(prior), class)),
  formals = formals(brm)[c("chains", "iter")])
if (!quick) seen$brms <- c(seen$brms, list(names = I(names_in_brms), control = control_of_brms))

rounded <- function(x) {
  if (is.list(x)) lapply(x, rounded) else if (is.double(x)) signif(x, 7) else x
}
packages <- c("brms", "rstanarm", "lme4", "rstan", "posterior")
versions <- c(R = as.character(getRversion()),
              sapply(packages, function(name) packageDescription(name)$Version))
code <- tempfile()
writeLines(grep("^\\s*(#|$)", script, invert = TRUE, value = TRUE), code)
sink()
cat(toJSON(list(
  what = paste(
    "The three models of the dictionary in brms, rstanarm, lme4 and Stan. means: of the posterior, with",
    "their Monte Carlo standard errors and the posterior sds; for lme4 the estimates (maximum likelihood,",
    "for the schools REML). intercept: of the trial half-way between the arms, of the schools at a ses of",
    "zero. control: what the sampler was told. seen: what the tools say of themselves; code: lines of the",
    "Stan programs that they wrote or came with."),
  made_with = paste(c("Rscript", "data/r_dictionary.R", if (quick) "quick"), collapse = " "),
  code = unname(tools::md5sum(code)),
  fits = list(versions = as.list(versions), seen = rounded(seen), means = rounded(means),
              minutes = signif((proc.time()[["elapsed"]] - started) / 60, 3))
), auto_unbox = TRUE, digits = NA, null = "null", pretty = 1), "\n")
