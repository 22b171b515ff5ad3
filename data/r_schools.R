# Fits of lme4 and blme on data/schools.csv, written as JSON to standard output:
#   Rscript data/r_schools.R > fits.json          (run from the project's root)
# "default" fits use the packages' own stopping rules; "tight" fits go on until the criterion
# no longer changes. The parts between "# [name]" and "# [end]" are shown in the book, word for word,
# and run here; "# [name: package]" says which package's version stands below it, where the part does not
# name it. The full-Bayes fit, by brms, takes most of the time: some minutes.
# data/r_schools.json holds what this printed, with the versions.
suppressMessages({library(lme4); library(blme); library(jsonlite)})
if (dir.exists("/usr/include/boost")) rstan::rstan_options(boost_lib = "/usr/include")  # Debian's R has no BH
sink(stderr())  # what the parts print; the JSON comes last
schools <- read.csv("data/schools.csv")
schools$catholic <- as.integer(schools$sector == "Catholic")
schools$ses_within <- schools$ses - ave(schools$ses, schools$school)

number <- function(x) paste0("[", paste(formatC(x, digits = 10, format = "g"), collapse = ", "), "]")
describe <- function(fit) {
  vc <- VarCorr(fit)
  sd <- attr(vc$school, "stddev")
  note <- c(fit@optinfo$message, fit@optinfo$conv$lme4$messages)
  paste0('{"fixed": ', number(fixef(fit)), ', "se": ', number(sqrt(diag(as.matrix(vcov(fit))))),
         ', "sd_intercept": ', formatC(sd[1], digits = 10, format = "g"),
         ', "sd_slope": ', formatC(sd[2], digits = 10, format = "g"),
         ', "correlation": ', formatC(attr(vc$school, "correlation")[1, 2], digits = 10, format = "g"),
         ', "sd_residual": ', formatC(sigma(fit), digits = 10, format = "g"),
         ', "reml": ', formatC(REMLcrit(fit), digits = 12, format = "g"),
         ', "evaluations": ', fit@optinfo$feval,
         ', "message": "', gsub('"', "'", paste(note, collapse = "; ")), '"}')
}
quiet <- function(expr) suppressMessages(suppressWarnings(expr))
tight <- lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12, xtol_rel = 1e-12,
                                    ftol_rel = 1e-15, maxeval = 5000))
tight_simplex <- lmerControl(optimizer = "Nelder_Mead",
                             optCtrl = list(FtolAbs = 1e-12, FtolRel = 1e-15, XtolRel = 1e-12,
                                            maxfun = 20000))
formulas <- list(
  raw_no_interaction = math ~ ses + catholic + (ses | school),
  raw_interaction = math ~ ses * catholic + (ses | school),
  within_no_interaction = math ~ ses_within + catholic + (ses_within | school),
  within_interaction = math ~ ses_within * catholic + (ses_within | school)
)
out <- character()
for (name in names(formulas)) {
  out <- c(out, sprintf('"%s": {"formula": "%s",\n  "default": %s,\n  "tight": %s}', name,
                        paste(deparse(formulas[[name]]), collapse = ""),
                        describe(quiet(lmer(formulas[[name]], schools))),
                        describe(quiet(lmer(formulas[[name]], schools, control = tight)))))
}
f <- formulas$raw_interaction
out <- c(out, sprintf('"blmer_default_call": %s', describe(quiet(blmer(f, schools)))))
for (df in c(3, 3.0001, 3.01, 3.1, 3.5, 4, 4.5, 6)) {
  fit <- if (df == 3) quiet(lmer(f, schools, control = tight_simplex)) else
    quiet(eval(substitute(blmer(f, schools, control = tight_simplex,
                                cov.prior = wishart(df = DF, scale = Inf)), list(DF = df))))
  out <- c(out, sprintf('"wishart_%s": %s', format(df, digits = 6), describe(fit)))
}
# The three districts of the case study, in the same way: no penalty, blme's default, gamma(2).
districts <- data.frame(users = c(30, 7, 2), women = c(117, 20, 2), district = factor(1:3))
g <- cbind(users, women - users) ~ 1 + (1 | district)
sd_of_districts <- function(fit) formatC(attr(VarCorr(fit)$district, "stddev"), digits = 6,
                                         format = "g")
out <- c(out, sprintf(
  '"districts": {"formula": "%s", "nAGQ": 100, "none": %s, "wishart": %s, "gamma_2": %s}',
  paste(deparse(g), collapse = ""),
  sd_of_districts(quiet(glmer(g, districts, binomial, nAGQ = 100))),
  sd_of_districts(quiet(bglmer(g, districts, family = binomial, nAGQ = 100))),
  sd_of_districts(quiet(bglmer(g, districts, family = binomial, nAGQ = 100,
                               cov.prior = gamma(shape = 2, rate = 0))))))

# ---------------------------------------------------------------------------------------------
# What lme4 says in which run, the reply, and the models that take less

heard <- function(make) {  # a fit with everything that was said while it was made
  said <- character()
  note <- function(condition) said <<- c(said, trimws(conditionMessage(condition)))
  fit <- withCallingHandlers(
    tryCatch(make(), error = function(e) {note(e); NULL}),
    warning = function(w) {note(w); invokeRestart("muffleWarning")},
    message = function(m) {note(m); invokeRestart("muffleMessage")})
  list(fit = fit, said = I(unique(said)))
}
figures <- function(fit) {
  vc <- as.data.frame(VarCorr(fit), order = "lower.tri")
  sds <- attr(VarCorr(fit)[[1]], "stddev")
  slope <- grep("^ses", vc$var1)
  both <- which(!is.na(vc$var2))
  list(fixed = as.list(fixef(fit)), se = as.list(sqrt(diag(as.matrix(vcov(fit))))),
       sd_intercept = sds[["(Intercept)"]], sd_slope = if (length(slope)) vc$sdcor[slope[1]] else 0,
       correlation = if (length(both)) vc$sdcor[both] else NULL, sd_residual = sigma(fit),
       parameters = attr(logLik(fit), "df"), criterion = if (isREML(fit)) REMLcrit(fit) else deviance(fit),
       AIC = AIC(fit), BIC = BIC(fit), singular = isSingular(fit))
}
told <- function(make) {
  one <- heard(make)
  c(if (is.null(one$fit)) list(refused = TRUE) else figures(one$fit), list(said = one$said))
}

# [reply: lme4, blme]
library(blme)
schools <- transform(
  read.csv("data/schools.csv"),
  catholic = as.integer(sector == "Catholic"),
  ses_within = ses - ave(ses, school)
)
fit <- blmer(
  math ~ ses * catholic + (ses | school), data = schools,
  cov.prior = wishart(df = 3.0001, scale = Inf),
  control = lmerControl(optimizer = "Nelder_Mead")
)
asked <- lmer(
  math ~ ses * catholic + (ses | school), data = schools,
  control = lmerControl(optimizer = "bobyqa")
)
c(penalised = isSingular(fit), asked = isSingular(asked))
# [end]

optimisers <- list(
  default = lmerControl(), bobyqa = lmerControl(optimizer = "bobyqa"),
  Nelder_Mead = lmerControl(optimizer = "Nelder_Mead"), tight = tight,
  nlminbwrap = lmerControl(optimizer = "nlminbwrap"))
runs <- lapply(optimisers, function(control) told(function() lmer(f, schools, control = control)))

# [reduced: lme4, RLRsim]
no_correlation <- lmer(math ~ ses * catholic + (ses || school), schools)
only_intercepts <- lmer(math ~ ses * catholic + (1 | school), schools)
# its p-value takes two degrees of freedom:
anova(only_intercepts, asked, refit = FALSE)
lost <- REMLcrit(only_intercepts) - REMLcrit(asked)
naive <- pchisq(lost, df = 2, lower.tail = FALSE)
# the slope's variance at its boundary:
mixture <- (pchisq(lost, df = 1, lower.tail = FALSE) + naive) / 2
# exact, for one variance: slopes that are uncorrelated with the intercepts
library(RLRsim)
only_slopes <- lmer(math ~ ses * catholic + (0 + ses | school), schools)
exact <- exactRLRT(
  only_slopes, mA = no_correlation, m0 = only_intercepts, seed = 1
)
# [end]
on_no_correlation <- update(asked, math ~ ses * catholic + (ses || school))
table <- anova(only_intercepts, asked, refit = FALSE)
tests <- list(
  deviance_lost = list("(ses || school)" = REMLcrit(no_correlation) - REMLcrit(asked),
                       "(1 | school)" = lost),
  naive_p = naive, anova_p = table[["Pr(>Chisq)"]][2], mixture_p = mixture,
  RLRsim = list(statistic = exact$statistic[[1]], p = exact$p.value[[1]], draws = 10000, seed = 1))
reduced <- list(
  "(ses | school)" = figures(asked),
  "(ses || school)" = told(function() lmer(math ~ ses * catholic + (ses || school), schools)),
  "(ses || school), bobyqa" = told(function() update(asked, math ~ ses * catholic + (ses || school))),
  "(1 | school)" = told(function() lmer(math ~ ses * catholic + (1 | school), schools)))

# Dropping the interaction, judged: by maximum likelihood, since the fixed effects differ.
no_interaction <- quiet(lmer(math ~ ses + catholic + (ses | school), schools, REML = FALSE))
interaction <- quiet(lmer(f, schools, REML = FALSE, control = optimisers$bobyqa))
dropped <- anova(no_interaction, interaction)
tests$interaction <- list(
  chisq = dropped$Chisq[2], df = dropped$Df[2], p = dropped[["Pr(>Chisq)"]][2],
  AIC_lost = AIC(no_interaction) - AIC(interaction), z = (fixef(asked) / sqrt(diag(vcov(asked))))[[4]])

# [rePCA: lme4]
summary(rePCA(asked))$school
# [end]
principal <- summary(rePCA(asked))$school
proportions <- function(fit) unname(summary(rePCA(fit))$school$importance["Proportion of Variance", ])

# [within: lme4]
schools$ses_school <- ave(schools$ses, schools$school)  # the school's mean
schools$ses_within <- schools$ses - schools$ses_school  # and what is left
bobyqa <- lmerControl(optimizer = "bobyqa")
within <- lmer(
  math ~ ses_within * catholic + (ses_within | school),
  schools, control = bobyqa
)
with_mean <- update(within, . ~ . + ses_school)
with_mean_1 <- update(
  with_mean, math ~ ses_within * catholic + ses_school + (1 | school)
)
anova(with_mean_1, with_mean, refit = FALSE)
# [end]
in_two_ways <- list(
  within = figures(within), "within + mean" = figures(with_mean),
  "within + mean, (1 | school)" = figures(with_mean_1),
  "within, (1 | school)" = figures(update(within, math ~ ses_within * catholic + (1 | school))),
  "asked + mean" = figures(update(asked, . ~ . + ses_school)),
  "asked + mean, (1 | school)" = figures(update(asked, math ~ ses * catholic + ses_school + (1 | school))))

# [df: lmerTest, pbkrtest]
library(lmerTest)
with_df <- as_lmerModLmerTest(asked)
satterthwaite <- coef(summary(with_df))
# by pbkrtest, which has standard errors of its own:
kenward_roger <- coef(summary(with_df, ddf = "Kenward-Roger"))
shown <- c("Std. Error", "df")
cbind(satterthwaite[, shown], kenward_roger[, shown])
# [end]
by_terms <- function(table) apply(table, 1, as.list)
degrees <- list(
  "(ses | school)" = by_terms(satterthwaite),
  "(ses | school), Kenward-Roger" = by_terms(kenward_roger),
  "(1 | school)" = by_terms(coef(summary(as_lmerModLmerTest(only_intercepts)))),
  said = heard(function() summary(as_lmerModLmerTest(asked)))$said)

# [priors: blme]
try_prior <- function(prior) eval(bquote(blmer(
  math ~ ses * catholic + (ses | school), data = schools,
  cov.prior = .(prior),
  control = lmerControl(optimizer = "Nelder_Mead")
)))
# shape 1.05 on the sds, and on sqrt(1 - r^2); and on the sds alone
log_det <- function(cov) 0.05 * log(det(cov)) / 2
gamma_sds <- function(cov) 0.05 * sum(log(diag(cov))) / 2
tried <- list(
  "wishart" = quote(wishart),
  "wishart(df = 3.0001, scale = Inf)" =
    quote(wishart(df = 3.0001, scale = Inf)),
  "wishart(df = 3, scale = Inf)" = quote(wishart(df = 3, scale = Inf)),
  "invwishart" = quote(invwishart),
  "gamma(shape = 2.5, rate = 0)" = quote(gamma(shape = 2.5, rate = 0)),
  "invgamma(shape = 2.5, scale = 1)" =
    quote(invgamma(shape = 2.5, scale = 1)),
  "custom(log_det)" = quote(custom(log_det, chol = FALSE, scale = "log")),
  "custom(gamma_sds)" =
    quote(custom(gamma_sds, chol = FALSE, scale = "log"))
)
# [end]
answers <- lapply(tried, function(prior) told(function() try_prior(prior)))

# [factor: lme4]
schools$school <- factor(schools$school)
as_factor <- lmer(
  math ~ ses * catholic + (ses | school), schools,
  control = lmerControl(optimizer = "bobyqa")
)
# lmer makes a factor of it anyway:
all.equal(fixef(as_factor), fixef(asked))
# the sector is constant within a school:
by_school <- lm(math ~ ses * catholic + school, schools)
names(coef(by_school))[is.na(coef(by_school))]
# [end]
missing <- names(coef(by_school))[is.na(coef(by_school))]
catholic_schools <- unique(schools$school[schools$catholic == 1])
red_herring <- list(
  largest_difference = max(abs(fixef(as_factor) - fixef(asked))),
  missing = I(missing), rank = by_school$rank, columns = length(coef(by_school)),
  sectors_per_school = max(tapply(schools$catholic, schools$school, function(x) length(unique(x)))),
  within_slope = coef(by_school)[["ses"]], interaction = coef(by_school)[["ses:catholic"]])

# [bayes]
library(brms)
full <- brm(
  math ~ ses * catholic + (ses | school), data = schools,
  prior = prior(normal(0, 20), class = Intercept) +
    prior(normal(0, 20), class = b) +
    prior(normal(0, 5), class = sd) + prior(lkj(2), class = cor) +
    prior(normal(0, 10), class = sigma),
  control = list(adapt_delta = 0.95), cores = 4, seed = 1, refresh = 0
)
posterior_summary(
  full, variable = c("^b_", "^sd_", "^cor_", "^sigma$"), regex = TRUE,
  probs = c(0.055, 0.5, 0.945)
)
# [end]
in_full <- c("^b_", "^sd_", "^cor_", "^sigma$")
drawn <- posterior::as_draws_array(full, variable = in_full, regex = TRUE)
bayes <- lapply(setNames(nm = dimnames(drawn)$variable), function(name) {
  values <- posterior::extract_variable_matrix(drawn, name)
  limits <- quantile(values, c(0.055, 0.945), names = FALSE)
  list(mean = mean(values), mcse = posterior::mcse_mean(values), sd = sd(values),
       low = limits[1], high = limits[2])
})
divergences <- sum(subset(nuts_params(full), Parameter == "divergent__")$Value)

rounded <- function(x) if (is.list(x)) lapply(x, rounded) else if (is.double(x)) signif(x, 10) else x
more <- list(
  runs = runs, reply = c(figures(fit), list(evaluations = fit@optinfo$feval)), reduced = reduced,
  tests = tests, rePCA = list(sd = unname(principal$importance["Standard deviation", ]),
                              proportion = proportions(asked), penalised = proportions(fit)),
  within = in_two_ways, df = degrees, priors = answers, factor = red_herring,
  bayes = list(divergences = divergences, posterior = bayes))
out <- c(out, sub("^\\{(.*)\\}$", "\\1", toJSON(rounded(more), auto_unbox = TRUE, digits = NA, null = "null")))

packages <- c("lme4", "blme", "lmerTest", "pbkrtest", "RLRsim", "brms")
versions <- c(R = as.character(getRversion()),
              sapply(packages, function(name) packageDescription(name)$Version))
versions <- paste('"versions":', toJSON(as.list(versions), auto_unbox = TRUE))
sink()
cat("{", paste(c(versions, out), collapse = ",\n"), "}\n")
