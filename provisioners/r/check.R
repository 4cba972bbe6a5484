# Loads each package that is named, and says its version.
names <- commandArgs(trailingOnly = TRUE)
loads <- function(name) {
  problem <- tryCatch({ suppressWarnings(suppressMessages(loadNamespace(name))); NULL }, error = conditionMessage)
  if (!is.null(problem)) cat("error: `", name, "` does not load: ", problem, "\n", sep = "")
  is.null(problem)
}
good <- vapply(names, loads, logical(1))
versions <- vapply(names[good], function(name) paste(name, utils::packageDescription(name, fields = "Version")), "")
if (length(versions)) cat("ready: ", paste(versions, collapse = ", "), "\n", sep = "")
quit(status = as.integer(!all(good)))
