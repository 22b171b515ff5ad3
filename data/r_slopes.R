# Fits of lme4 and brms on data/bangladesh.csv, written as JSON to standard output:
#   Rscript data/r_slopes.R > fits.json          (run from the project's root; brms takes most of the time)
# The parts between "# [name]" and "# [end]" are shown in the book, word for word, and run here;
# "# [name: package]" says which package's version stands below it, where the part does not name it.
# data/r_slopes.json holds what this printed, with the versions.
suppressMessages({library(lme4); library(jsonlite)})
if (dir.exists("/usr/include/boost")) rstan::rstan_options(boost_lib = "/usr/include")  # Debian's R has no BH
sink(stderr())  # what the parts print; the JSON comes last

heard <- function(make) {  # a fit with everything that was said while it was made
  said <- character()
  note <- function(condition) said <<- c(said, trimws(conditionMessage(condition)))
  fit <- withCallingHandlers(
    make(),
    warning = function(w) {note(w); invokeRestart("muffleWarning")},
    message = function(m) {note(m); invokeRestart("muffleMessage")})
  list(fit = fit, said = I(unique(said)))
}
figures <- function(fit) {
  vc <- VarCorr(fit)
  sds <- unlist(lapply(vc, attr, "stddev"))
  correlation <- if (length(vc) == 1) attr(vc[[1]], "correlation")[1, 2] else NULL
  list(fixed = as.list(fixef(fit)), se = as.list(sqrt(diag(as.matrix(vcov(fit))))),
       sd_intercept = sds[[1]], sd_slope = sds[[2]], correlation = correlation,
       logLik = as.numeric(logLik(fit)), singular = isSingular(fit))
}

# [lme4]
library(lme4)
women <- transform(
  read.csv("data/bangladesh.csv"),
  use = use_contraception, age = age_centered, livch = living_children
)
urban_slope <- glmer(
  use ~ urban + (urban | district), data = women, family = binomial
)
full <- glmer(
  use ~ urban + age + livch + (urban | district), data = women,
  family = binomial
)
# the same without the correlation, and the test of it:
no_correlation <- glmer(
  use ~ urban + (urban || district), data = women, family = binomial
)
anova(no_correlation, urban_slope)
# [end]

# [counts: lme4]
counts <- aggregate(
  cbind(users = use, women = 1) ~ district + urban,
  data = women, FUN = sum
)
from_counts <- glmer(
  cbind(users, women - users) ~ urban + (urban | district),
  data = counts, family = binomial,
  # lme4 counts lines, and has fewer of them here than district effects
  control = glmerControl(check.nobs.vs.nRE = "ignore")
)
# [end]
fits <- list(
  urban_slope = use ~ urban + (urban | district),
  full = use ~ urban + age + livch + (urban | district),
  no_correlation = use ~ urban + (urban || district))
refused <- tryCatch(update(from_counts, control = glmerControl()), error = conditionMessage)
out <- lapply(fits, function(formula) {
  one <- heard(function() glmer(formula, data = women, family = binomial))
  c(list(formula = paste(deparse(formula), collapse = "")), figures(one$fit), list(said = one$said))
})
test <- anova(no_correlation, urban_slope)
out$correlation_test <- list(chisq = test$Chisq[2], df = test$Df[2], p = test[["Pr(>Chisq)"]][2])
out$from_counts <- c(figures(from_counts), list(refused = refused))
slopes <- coef(urban_slope)$district$urban
out$slopes <- setNames(as.list(slopes), rownames(coef(urban_slope)$district))

# [brms]
library(brms)
# "0 + Intercept": the prior is on the intercept as it stands, rural women
posterior <- brm(
  users | trials(women) ~ 0 + Intercept + urban + (urban | district),
  data = counts, family = binomial(),
  prior = prior(normal(0, 1.5), class = b, coef = Intercept) +
    prior(normal(0, 1), class = b, coef = urban) +
    prior(exponential(1), class = sd) + prior(lkj(2), class = cor),
  cores = 2, seed = 1, refresh = 0
)
# [end]

# [average: lme4, brms]
# lme4: from the estimates, without an interval
mean(
  predict(urban_slope, transform(women, urban = 1), type = "response") -
    predict(urban_slope, transform(women, urban = 0), type = "response")
)
# brms: draw by draw; a column of the matrix for each line of counts
probability <- function(x) {
  posterior_epred(posterior, transform(counts, urban = x, women = 1))
}
effect <- probability(1) - probability(0)
average <- effect %*% counts$women / sum(counts$women)
quantile(average, c(0.055, 0.5, 0.945))
# [end]
out$average <- list(
  lme4 = mean(predict(urban_slope, transform(women, urban = 1), type = "response") -
                predict(urban_slope, transform(women, urban = 0), type = "response")),
  brms = list(mean = mean(average), low = unname(quantile(average, 0.055)),
              high = unname(quantile(average, 0.945))))
names <- c("^b_", "^sd_", "^cor_")
drawn <- posterior::as_draws_array(posterior, variable = names, regex = TRUE)
out$brms <- list(
  divergences = sum(subset(nuts_params(posterior), Parameter == "divergent__")$Value),
  posterior = lapply(setNames(nm = dimnames(drawn)$variable), function(name) {
    values <- posterior::extract_variable_matrix(drawn, name)
    list(mean = mean(values), mcse = posterior::mcse_mean(values), sd = sd(values))
  }))


# [interval: lme4]
confint(urban_slope, parm = "theta_", oldNames = FALSE)
# [end]
urban_slope <- update(urban_slope)  # the profile leaves its own parameters in the fit
profile <- suppressMessages(confint(urban_slope, parm = "theta_", oldNames = FALSE))
out$correlation_interval <- as.list(unname(profile[grep("^cor", rownames(profile)), ]))

rounded <- function(x) if (is.list(x)) lapply(x, rounded) else if (is.double(x)) signif(x, 8) else x
packages <- c("lme4", "brms")
versions <- c(list(R = as.character(getRversion())),
              lapply(setNames(nm = packages), function(name) packageDescription(name)$Version))
sink()
cat(toJSON(c(list(versions = versions), rounded(out)), auto_unbox = TRUE, digits = NA, pretty = TRUE,
           null = "null"), "\n")
