# Works out which packages have to be built, in which order, and fetches and unpacks their sources.
#
# Reads   $DSIMG_WORK/to-build  name, version or `-`, `cran` or `bioc`
#         $DSIMG_WORK/github    owner/repo[/folder]@commit
#         $DSIMG_WORK/debian    Debian's name and R's version of each R package that Debian has
# Writes  $DSIMG_WORK/plan      name, version, source, whether it is compiled, what it needs of the plan (tabs)
#         $DSIMG_WORK/debs      Debian packages that the plan needs
#         $DSIMG_WORK/makefile  the plan, for make
#         $DSIMG_WORK/src/NAME  the unpacked sources

work <- Sys.getenv("DSIMG_WORK")
library_path <- Sys.getenv("DSIMG_LIBRARY")
options(timeout = 600, warn = 1, HTTPUserAgent = sprintf("R/%s R (%s)", getRversion(), paste(
  getRversion(), R.version$platform, R.version$arch, R.version$os)))

main <- function() {
  wanted <- read_words("to-build", c("name", "version", "kind"))
  contribs <- repositories(any(wanted$kind == "bioc"))
  known <- read_repositories(contribs)
  known <- add_rows(known, github_sources())
  wanted <- rbind(wanted, github_wanted)
  known <- add_rows(known, pinned_sources(wanted, known, contribs))
  plan <- resolve(wanted, known)
  fetch_sources(plan$build, known)
  write_plan(plan, known)
}

fail <- function(message, hint = NULL) {
  cat("error: ", message, "\n", sep = "")
  if (!is.null(hint)) cat("hint: ", hint, "\n", sep = "")
  quit(status = 1)
}

# An address as the template has it, not as dsimg serves it.
shown <- function(url) sub("^http://[^/]+/(cran|file)/(https?)/", "\\2://", url)

read_words <- function(file, columns) {
  path <- file.path(work, file)
  if (!file.exists(path) || file.size(path) == 0) {
    return(setNames(data.frame(matrix(character(), 0, length(columns))), columns))
  }
  read.table(path, col.names = columns, colClasses = "character", quote = "", comment.char = "")
}

# --- what the repositories have -------------------------------------------------------------------------------------

repositories <- function(with_bioconductor) {
  repos <- Sys.getenv("DSIMG_REPOSITORY")
  if (with_bioconductor) {
    release <- as.character(utils:::.BioC_version_associated_with_R_version())
    base <- sprintf("%s/packages/%s", Sys.getenv("DSIMG_BIOCONDUCTOR"), release)
    cat("Bioconductor", release, "belongs to R", as.character(getRversion()), "\n")
    repos <- c(repos, paste0(base, c("/bioc", "/data/annotation", "/data/experiment")))
  }
  contrib.url(repos, type = "source")
}

# The index of each, as a matrix with a row for each package; the first repository that has a package gives it.
read_repositories <- function(contribs) {
  known <- NULL
  for (contrib in contribs) {
    said <- ""
    # That there is no PACKAGES.rds is only a warning: R then reads PACKAGES. An index that can't be read at all too.
    note <- function(condition) {
      said <<- conditionMessage(condition)
      invokeRestart("muffleWarning")
    }
    found <- tryCatch(
      withCallingHandlers(available.packages(contrib, filters = c("R_version", "OS_type", "duplicates"),
        ignore_repo_cache = TRUE), warning = note),
      error = function(problem) fail(sprintf("cannot read the index of `%s`: %s", shown(contrib), conditionMessage(problem))))
    # A mirror may leave out Bioconductor's data packages.
    if (nrow(found) == 0 && grepl("/data/(annotation|experiment)/", contrib)) next
    if (nrow(found) == 0) fail(sprintf("`%s` has no package for R %s: %s", shown(contrib), getRversion(), said))
    known <- add_rows(found, known)
  }
  known
}

# Rows of `more` take the place of those of the same package.
add_rows <- function(known, more) {
  if (is.null(more)) return(known)
  if (is.null(known)) return(more)
  columns <- union(colnames(known), colnames(more))
  fill <- function(rows) {
    wide <- matrix(NA_character_, nrow(rows), length(columns), dimnames = list(rownames(rows), columns))
    wide[, colnames(rows)] <- rows
    wide
  }
  known <- known[!rownames(known) %in% rownames(more), , drop = FALSE]
  rbind(fill(known), fill(more))
}

# A package that is asked for in a version that the index has not: CRAN keeps the old ones in an archive.
pinned_sources <- function(wanted, known, contribs) {
  rows <- NULL
  for (i in which(wanted$version != "-")) {
    name <- wanted$name[i]
    version <- wanted$version[i]
    if (name %in% rownames(known) && known[name, "Version"] == version) next
    file <- sprintf("%s_%s.tar.gz", name, version)
    places <- c(paste0(contribs, "/", file), paste0(contribs, "/Archive/", name, "/", file))
    target <- file.path(work, file)
    if (!any(vapply(places, download, logical(1), target = target))) {
      current <- if (name %in% rownames(known)) known[name, "Version"] else "none"
      fail(sprintf("`%s` has no version %s", name, version), sprintf("the repository's current version is %s", current))
    }
    rows <- add_rows(rows, unpack(target, name))
  }
  rows
}

download <- function(url, target) {
  suppressWarnings(tryCatch(download.file(url, target, quiet = TRUE, mode = "wb") == 0, error = function(e) FALSE))
}

# --- GitHub ---------------------------------------------------------------------------------------------------------

github_wanted <- data.frame(name = character(), version = character(), kind = character())

github_sources <- function() {
  rows <- NULL
  for (item in grep(".", readLines(file.path(work, "github")), value = TRUE)) {
    commit <- sub(".*@", "", item)
    parts <- strsplit(sub("@.*", "", item), "/")[[1]]
    repo <- paste(parts[1:2], collapse = "/")
    folder <- paste(parts[-(1:2)], collapse = "/")
    url <- gsub("{commit}", commit, gsub("{repo}", repo, Sys.getenv("DSIMG_GITHUB"), fixed = TRUE), fixed = TRUE)
    cat("fetching", repo, "at", commit, "\n")
    target <- tempfile(fileext = ".tar.gz")
    failed <- tryCatch({ download.file(url, target, quiet = TRUE, mode = "wb"); NULL },
      error = conditionMessage, warning = conditionMessage)
    if (!is.null(failed)) fail(sprintf("cannot fetch `%s` from `%s`: %s", item, shown(url), failed))
    rows <- add_rows(rows, unpack(target, NULL, folder, remote_fields(parts, folder, commit)))
  }
  if (!is.null(rows)) {
    github_wanted <<- data.frame(name = rownames(rows), version = "-", kind = "github")
    writeLines(rownames(rows), file.path(work, "from-github"))
  }
  rows
}

# The fields that remotes and renv write, so that they and the freeze know where the package came from.
remote_fields <- function(parts, folder, commit) {
  fields <- c(RemoteType = "github", RemoteHost = "api.github.com", RemoteUsername = parts[1], RemoteRepo = parts[2],
    RemoteRef = commit, RemoteSha = commit)
  if (nzchar(folder)) c(fields, RemoteSubdir = folder) else fields
}

# --- sources --------------------------------------------------------------------------------------------------------

# Unpacks a package to src/NAME and returns its row.
unpack <- function(archive, name, folder = "", fields = NULL) {
  place <- tempfile(tmpdir = file.path(work, "src"))
  if (untar(archive, exdir = place) != 0) fail(sprintf("`%s` is no package: it can't be unpacked", basename(archive)))
  root <- list.files(place, full.names = TRUE)
  source <- file.path(root[dir.exists(root)][1], folder)
  description <- file.path(source, "DESCRIPTION")
  if (!file.exists(description)) fail(sprintf("`%s` holds no R package", basename(archive)))
  row <- read.dcf(description)
  if (!is.null(fields)) {
    row <- cbind(row[, !colnames(row) %in% names(fields), drop = FALSE], t(fields))
    write.dcf(row, description)
  }
  if (is.null(name)) name <- row[1, "Package"]
  if (row[1, "Package"] != name) fail(sprintf("`%s` holds the package `%s`", basename(archive), row[1, "Package"]))
  target <- file.path(work, "src", name)
  unlink(target, recursive = TRUE)
  file.rename(source, target)
  unlink(place, recursive = TRUE)
  compiles <- if (dir.exists(file.path(target, "src"))) "yes" else "no"
  row <- cbind(row[, setdiff(colnames(row), c("NeedsCompilation", "Repository")), drop = FALSE],
    NeedsCompilation = compiles, Repository = "")
  rownames(row) <- name
  row
}

fetch_sources <- function(names, known) {
  for (name in names) {
    if (dir.exists(file.path(work, "src", name))) next
    version <- known[name, "Version"]
    file <- sprintf("%s_%s.tar.gz", name, version)
    folder <- known[name, "Repository"]
    if ("Path" %in% colnames(known) && !is.na(known[name, "Path"])) folder <- paste0(folder, "/", known[name, "Path"])
    target <- file.path(work, file)
    failed <- tryCatch({ download.file(paste0(folder, "/", file), target, quiet = TRUE, mode = "wb"); NULL },
      error = conditionMessage, warning = conditionMessage)
    if (!is.null(failed)) fail(sprintf("cannot fetch `%s`: %s", file, failed))
    # R's own installer does not compare this.
    listed <- if ("MD5sum" %in% colnames(known)) known[name, "MD5sum"] else NA
    if (!is.na(listed) && tools::md5sum(target) != listed) {
      fail(sprintf("`%s` is not what the repository's index lists: its checksum differs", file))
    }
    unpack(target, name)
    unlink(target)
  }
}

# --- what has to be built -------------------------------------------------------------------------------------------

# Depends, Imports and LinkingTo of a package: name, comparison or "", version.
needs <- function(known, name) {
  fields <- intersect(c("Depends", "Imports", "LinkingTo"), colnames(known))
  text <- known[name, fields]
  words <- trimws(unlist(strsplit(text[!is.na(text)], ",")))
  pattern <- "^([A-Za-z0-9.]+)\\s*(\\(\\s*([<>=]+)\\s*([0-9.-]+)\\s*\\))?.*$"
  words <- grep(pattern, words, value = TRUE)
  data.frame(name = sub(pattern, "\\1", words), compare = sub(pattern, "\\3", words), version = sub(pattern, "\\4", words))
}

satisfies <- function(has, compare, version) {
  if (!nzchar(compare)) return(TRUE)
  tryCatch(do.call(compare, list(package_version(has), package_version(version))), error = function(e) FALSE)
}

# Walks from what is wanted to what that needs. What is installed or what Debian has is taken where it is new enough.
resolve <- function(wanted, known) {
  installed <- installed.packages(unique(c(library_path, .libPaths())))[, c("Package", "Version", "Priority"), drop = FALSE]
  installed <- installed[!duplicated(installed[, "Package"]), , drop = FALSE]
  rownames(installed) <- installed[, "Package"]
  debian <- read_words("debian", c("deb", "version"))
  base <- c("R", rownames(installed)[installed[, "Priority"] %in% "base"])
  build <- character()
  debs <- character()
  queue <- data.frame(name = wanted$name, compare = ifelse(wanted$version == "-", "", "=="),
    version = wanted$version, by = "", fresh = wanted$kind == "github")
  while (nrow(queue) > 0) {
    at <- queue[1, ]
    queue <- queue[-1, ]
    if (at$name %in% c(base, build)) next
    if (!at$fresh && at$name %in% rownames(installed) && satisfies(installed[at$name, "Version"], at$compare, at$version)) {
      if (at$by == "") cat(at$name, installed[at$name, "Version"], "is there already\n")
      next
    }
    deb <- match(paste0(c("r-cran-", "r-bioc-"), tolower(at$name)), debian$deb)
    deb <- deb[!is.na(deb)][1]
    if (at$by != "" && Sys.getenv("DSIMG_BINARIES") != "never" && !is.na(deb) &&
      satisfies(debian$version[deb], at$compare, at$version)) {
      debs <- c(debs, debian$deb[deb])
      next
    }
    if (!at$name %in% rownames(known)) explain_missing(at, known)
    build <- c(build, at$name)
    more <- needs(known, at$name)
    if (nrow(more) > 0) queue <- rbind(queue, cbind(more, by = at$name, fresh = FALSE))
  }
  list(build = order_build(build, known), debs = unique(debs))
}

explain_missing <- function(at, known) {
  near <- agrep(at$name, rownames(known), max.distance = 0.2, ignore.case = TRUE, value = TRUE)
  near <- head(near[order(adist(at$name, near, ignore.case = TRUE))], 3)
  hint <- if (length(near)) paste0("near names: ", paste0("`", near, "`", collapse = ", "))
  for_whom <- if (at$by == "") "" else sprintf(", which `%s` needs", at$by)
  fail(sprintf("there is no R package `%s`%s in the repositories, or none for R %s", at$name, for_whom, getRversion()),
    hint)
}

order_build <- function(build, known) {
  done <- character()
  while (length(build) > 0) {
    ready <- Filter(function(name) !any(needs(known, name)$name %in% setdiff(build, name)), build)
    if (length(ready) == 0) fail(sprintf("these packages need each other: %s", paste(build, collapse = ", ")))
    done <- c(done, ready)
    build <- setdiff(build, ready)
  }
  done
}

write_plan <- function(plan, known) {
  lines <- vapply(plan$build, function(name) {
    inner <- intersect(needs(known, name)$name, plan$build)
    compiles <- known[name, "NeedsCompilation"]
    paste(name, known[name, "Version"], known[name, "Repository"], if (is.na(compiles)) "yes" else compiles,
      paste(inner, collapse = " "), sep = "\t")
  }, character(1))
  writeLines(lines, file.path(work, "plan"))
  writeLines(plan$debs, file.path(work, "debs"))
  targets <- paste0(work, "/done/", plan$build)
  rules <- vapply(seq_along(plan$build), function(i) {
    inner <- intersect(needs(known, plan$build[i])$name, plan$build)
    sprintf("%s: %s\n\t@./build-one.sh %s %s", targets[i], paste(paste0(work, "/done/", inner)[nzchar(inner)], collapse = " "),
      plan$build[i], known[plan$build[i], "Version"])
  }, character(1))
  writeLines(c(paste("all:", paste(targets, collapse = " ")), rules), file.path(work, "makefile"))
}

main()
