# Installs what an renv.lock names into a library. Sources come from the lock's own repositories unless overridden.
.libPaths(c(.libPaths(), file.path(Sys.getenv("DSIMG_WORK"), "renv-library")))
options(timeout = 600, renv.consent = TRUE, renv.verbose = TRUE)
library_path <- Sys.getenv("DSIMG_LIBRARY")
lock <- Sys.getenv("DSIMG_LOCK")
renv::restore(library = library_path, lockfile = lock, prompt = FALSE, clean = FALSE)

# restore() can end well without having installed all.
wanted <- renv::lockfile_read(lock)$Packages
missing <- Filter(function(package) {
  has <- suppressWarnings(utils::packageDescription(package$Package, c(library_path, .libPaths()), fields = "Version"))
  is.na(has) || has != package$Version
}, wanted)
if (length(missing) > 0) {
  names <- vapply(missing, function(package) paste(package$Package, package$Version), character(1))
  cat("error: not installed:", paste(names, collapse = ", "), "\n")
  quit(status = 1)
}
