//! `templates/team.toml`, built and used as its team would. It takes most of an hour in an emulated machine, so it runs
//! when asked for: `make test-team`.

use std::path::PathBuf;

use dsimg_tests::{Booted, Firmware, build_image, cache_folder, repository};

const PYTHON: &str = r#"{"cells": [{"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [],
  "source": ["import numpy, pandas, sklearn, pyarrow, matplotlib.pyplot as plt\n",
  "plt.plot(numpy.arange(3)); print(pandas.DataFrame({'a': [1, 2]}).a.sum(), sklearn.__version__)"]}],
  "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "nbformat": 4, "nbformat_minor": 4}"#;

const R: &str = r#"{"cells": [{"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [],
  "source": ["library(ggplot2); library(caret); library(igraph)\n",
  "ggplot(mtcars, aes(wt, mpg)) + geom_point()"]}],
  "metadata": {"kernelspec": {"name": "ir", "display_name": "R"}}, "nbformat": 4, "nbformat_minor": 4}"#;

#[test]
#[ignore = "an hour of emulation: make test-team"]
fn both_kernels_run_a_notebook_in_a_fresh_boot() {
    let machine = Booted::start(&image(), Firmware::Bios, "170G");
    machine.wait_for_first_boot();
    let kernels = machine.read("/opt/ds/bin/jupyter kernelspec list");
    for kernel in ["python3", "ir"] {
        assert!(kernels.contains(kernel), "no kernel {kernel} in:\n{kernels}");
    }
    for (name, notebook, output) in [("python", PYTHON, "image/png"), ("r", R, "image/png")] {
        machine.ssh(&format!("cat >{name}.ipynb <<'END'\n{notebook}\nEND")).expect_success();
        machine
            .ssh(&format!("/opt/ds/bin/jupyter nbconvert --to notebook --execute --inplace {name}.ipynb"))
            .expect_success();
        machine.ssh(&format!("grep -q {output} {name}.ipynb")).expect_success();
    }
}

fn image() -> PathBuf {
    let output = cache_folder().join("images");
    let image = output.join("ds-team-1.0/ds-team-1.0.qcow2");
    if !image.exists() {
        build_image(&repository().join("templates/team.toml"), &output);
    }
    image
}
