# Draws of brms and rstan, as `fieldguide diagnose` reads them, written from a small fit of each:
#   Rscript data/r_export_draws.R FOLDER      (two programs are compiled; two minutes)
# writes brms.csv, rstan.csv (as posterior and the sampler give them), stanfit.csv (rstan's data frame,
# which has no chains) and fit.rds into the folder, and prints as JSON what the fits say of themselves;
# data/r_export_draws.json holds what this printed, with the versions.
# The parts between "# [name]" and "# [end]" run here, word for word.
suppressPackageStartupMessages({ library(brms); library(rstan); library(jsonlite) })
folder <- commandArgs(trailingOnly = TRUE)[1]
if (dir.exists("/usr/include/boost")) rstan_options(boost_lib = "/usr/include")  # Debian's R has no BH
sink(stderr())  # what the fits print; the JSON comes last
start <- getwd()
trial <- data.frame(
  site = factor(c("Oslo", "Rome", "St. Ives", "Lund", "Bonn")),
  successes = c(2, 29, 0, 1, 6), n = c(15, 150, 25, 10, 50)
)
said_by <- function(stanfit) list(
  divergences = get_num_divergent(stanfit), chains = stanfit@sim$chains,
  draws = nrow(as.matrix(stanfit)), energy = lapply(get_sampler_params(stanfit, FALSE), function(x) {
    mean(x[, "energy__"])
  }))

fit <- suppressMessages(suppressWarnings(brm(
  successes | trials(n) ~ 1 + (1 | site), data = trial, family = binomial(),
  chains = 2, iter = 400, seed = 1, refresh = 0
)))
setwd(folder)

# [export: brms]
said <- rstan::get_sampler_params(fit$fit, inc_warmup = FALSE)
draws <- cbind(posterior::as_draws_df(fit), do.call(rbind, said))
write.csv(draws, "draws.csv", row.names = FALSE)
# [end]

file.rename("draws.csv", "brms.csv")
saveRDS(fit, "fit.rds")
of_brms <- c(said_by(fit$fit), list(
  intercept = lapply(1:2, function(k) mean(as.array(fit)[, k, "b_Intercept"])),
  sites = levels(trial$site), last = mean(as.matrix(fit)[, "r_site[St..Ives,Intercept]"])))
setwd(start)

code <- "
  parameters { vector[3] theta; array[2] vector[2] z; real<lower=0> sigma; }
  model { theta ~ normal(0, sigma); sigma ~ normal(0, 1); for (k in 1:2) z[k] ~ std_normal(); }
"
code <- sub("array[2] vector[2] z", "vector[2] z[2]", code, fixed = TRUE)  # as rstan 2.21 writes arrays
fit <- suppressWarnings(stan(model_code = code, chains = 2, iter = 400, seed = 1, refresh = 0))
setwd(folder)

# [export_rstan: rstan]
said <- rstan::get_sampler_params(fit, inc_warmup = FALSE)
draws <- cbind(posterior::as_draws_df(fit), do.call(rbind, said))
write.csv(draws, "draws.csv", row.names = FALSE)
# [end]

file.rename("draws.csv", "rstan.csv")
write.csv(as.data.frame(fit), "stanfit.csv")
of_rstan <- c(said_by(fit), list(z21 = lapply(1:2, function(k) mean(as.array(fit)[, k, "z[2,1]"]))))
sink()
versions <- c(R = as.character(getRversion()), sapply(
  c("brms", "rstan", "posterior"), function(package) as.character(packageVersion(package))
))
cat(toJSON(list(
  what = "What small fits in brms and rstan say of themselves, whose draws are written for the report.",
  fits = list(versions = as.list(versions), brms = of_brms, rstan = of_rstan)
), auto_unbox = TRUE, digits = NA, pretty = TRUE), "\n")
