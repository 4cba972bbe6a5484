//! Package names that people write and that are wrong, dead or heavy, with the right ones.
//!
//! Checked in November 2026 against PyPI's list and Debian 12.15 and 13.7.

/// What comes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody has a package of this name, or it refuses to be installed.
    Fails,
    /// It installs, and is not what was meant.
    Wrong,
    /// Right, with something to know.
    Heavy,
}

pub(super) struct KnownName {
    pub(super) name: &'static str,
    pub(super) fate: Fate,
    /// Completes "`name` …".
    pub(super) because: &'static str,
    pub(super) instead: &'static str,
}

const fn fails(name: &'static str, because: &'static str, instead: &'static str) -> KnownName {
    KnownName { name, fate: Fate::Fails, because, instead }
}

const fn wrong(name: &'static str, because: &'static str, instead: &'static str) -> KnownName {
    KnownName { name, fate: Fate::Wrong, because, instead }
}

const fn heavy(name: &'static str, because: &'static str, instead: &'static str) -> KnownName {
    KnownName { name, fate: Fate::Heavy, because, instead }
}

/// Python packages, by normalised name.
pub(super) const PIP: &[KnownName] = &[
    fails("sklearn", "refuses to be installed: it is a stub without code", "did you mean `scikit-learn`?"),
    wrong("scikits-learn", "is scikit-learn of 2011", "did you mean `scikit-learn`?"),
    wrong("skimage", "is an empty package", "did you mean `scikit-image`?"),
    wrong("matplot", "is another, abandoned package", "did you mean `matplotlib`?"),
    wrong("panda", "is another, abandoned package", "did you mean `pandas`?"),
    wrong("parquet", "only reads, slowly, and was last released in 2020", "use `pyarrow` or `fastparquet`"),
    fails("python-parquet", "is not on PyPI", "use `pyarrow`"),
    wrong("python-igraph", "is the old name of a package", "use `igraph`"),
    fails("docker-compose", "cannot be installed any more: it needs PyYAML 5", "use the apt package `docker-compose`"),
    wrong("python-docker", "is another, abandoned package", "did you mean `docker`?"),
    wrong("testinfra", "is the old name of a package", "use `pytest-testinfra`"),
    wrong("goss", "is another package (Github Object Storage)", "the server test tool is the apt package `goss`"),
    wrong("airflow", "is an empty package", "did you mean `apache-airflow`?"),
    fails("conda", "is not on PyPI", "Miniforge installs it; with this provisioner its packages come from PyPI"),
    fails("micromamba", "is not on PyPI", "with this provisioner packages come from PyPI, without conda"),
    fails("tljh", "is not on PyPI", "use `jupyterhub`"),
    fails("repo2docker", "is not on PyPI", "did you mean `jupyter-repo2docker`?"),
    fails("code-server", "is not on PyPI", "its makers publish a .deb: `debs` of the provisioner `apt`"),
    fails("jupyter-lab", "is not on PyPI", "did you mean `jupyterlab`?"),
    fails("jupyter-notebook", "is not on PyPI", "did you mean `notebook`?"),
    heavy(
        "jupyter",
        "brings 25 packages that a kernel or JupyterLab does not need",
        "use `jupyterlab`, `notebook` or `ipykernel`",
    ),
    fails("cv2", "is not on PyPI", "did you mean `opencv-python-headless`?"),
    fails("opencv", "is not on PyPI", "did you mean `opencv-python-headless`?"),
    fails("python-opencv", "is not on PyPI", "did you mean `opencv-python-headless`?"),
    fails("pil", "is not on PyPI", "did you mean `pillow`?"),
    fails("yaml", "is not on PyPI", "did you mean `pyyaml`?"),
    fails("dateutil", "is not on PyPI", "did you mean `python-dateutil`?"),
    wrong("dotenv", "is a deprecated package", "did you mean `python-dotenv`?"),
    wrong("beautifulsoup", "is for Python 2", "did you mean `beautifulsoup4`?"),
    wrong("bs4", "is an empty package that asks for the real one", "use `beautifulsoup4`"),
    wrong("mysql-python", "is for Python 2", "use `pymysql` or `mysqlclient`"),
    fails("tensorflow-gpu", "was removed from PyPI", "use `tensorflow`, or `tensorflow-cpu` without a GPU"),
    fails("sqlite3", "is not on PyPI", "it is part of Python: remove it"),
    fails("tkinter", "is not on PyPI", "it is the apt package `python3-tk`"),
    fails("json", "is not on PyPI", "it is part of Python: remove it"),
    heavy("tensorflow", "is built for GPUs", "without a GPU use `tensorflow-cpu`"),
    heavy(
        "torch",
        "brings the libraries of CUDA, gigabytes of them",
        "without a GPU use the apt package `python3-torch` or an index with CPU builds",
    ),
    heavy("xgboost", "brings 469 MB of NVIDIA's libraries", "without a GPU use `xgboost-cpu`"),
    heavy("mlflow", "brings a whole server", "a client needs only `mlflow-skinny`"),
];

/// Debian packages.
pub(super) const APT: &[KnownName] = &[
    heavy(
        "r-base",
        "is R with everything it recommends",
        "use `r-base-core`, and `r-recommended` for the usual packages",
    ),
    wrong("docker", "is a dock for window managers", "did you mean `docker.io`?"),
    fails("python", "is no longer in Debian and Ubuntu", "use `python3`"),
    fails("python-pip", "is no longer in Debian and Ubuntu", "use a `[[provision]]` of type `pip`"),
    fails("python-dev", "is no longer in Debian and Ubuntu", "use `python3-dev`"),
    fails("python-virtualenv", "is no longer in Debian and Ubuntu", "use `python3-venv`"),
];

/// What Debian does not have; a repository of its makers may.
pub(super) const NOT_IN_DEBIAN: &[(&str, &str)] = &[
    ("docker-ce", "use Debian's `docker.io`, or add Docker's repository"),
    ("mysql-server", "use `mariadb-server`"),
    ("mongodb", "add its makers' repository"),
    ("mongodb-org", "add its makers' repository"),
    ("jenkins", "add its makers' repository"),
    ("terraform", "add its makers' repository"),
    ("rstudio-server", "download its .deb and name it in `debs`"),
    ("code-server", "download its .deb and name it in `debs`"),
    ("quarto", "download its .deb and name it in `debs`"),
    ("minio", "add its makers' .deb to `debs`"),
    ("gitlab-ce", "add its makers' repository"),
];

/// R packages; names in R know upper and lower case.
pub(super) const R: &[KnownName] = &[
    wrong("ggplot", "is not on CRAN any more", "did you mean `ggplot2`?"),
    wrong("irkernel", "is not on CRAN", "did you mean `IRkernel`?"),
    wrong("mass", "is not on CRAN", "did you mean `MASS`?"),
    wrong("randomforest", "is not on CRAN", "did you mean `randomForest`?"),
    wrong("rcpp", "is not on CRAN", "did you mean `Rcpp`?"),
    wrong("matrix", "is not on CRAN", "did you mean `Matrix`?"),
    wrong("rsqlite", "is not on CRAN", "did you mean `RSQLite`?"),
    wrong("rpostgresql", "is not on CRAN", "did you mean `RPostgreSQL`?"),
    wrong("dbi", "is not on CRAN", "did you mean `DBI`?"),
    wrong("hmisc", "is not on CRAN", "did you mean `Hmisc`?"),
    wrong("r6", "is not on CRAN", "did you mean `R6`?"),
    wrong("dt", "is not on CRAN", "did you mean `DT`?"),
];
