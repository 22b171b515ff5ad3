# Fits of lme4 and blme on data/schools.csv, written as JSON to standard output:
#   Rscript data/r_schools.R > fits.json          (run from the project's root)
# "default" fits use the packages' own stopping rules; "tight" fits go on until the criterion
# no longer changes. data/r_schools.json holds what this printed, with the versions.
suppressMessages({library(lme4); library(blme)})
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
versions <- sprintf('"versions": {"R": "%s", "lme4": "%s", "blme": "%s"}', getRversion(),
                    packageVersion("lme4"), packageVersion("blme"))
cat("{", paste(c(versions, out), collapse = ",\n"), "}\n")
