# shellcheck shell=bash
# A Python environment of a test's own, kept between runs. Sourced; needs bash.

# `make_venv WORK REQUIREMENTS`: WORK/venv with the packages of the file, made where it isn't there.
make_venv() {
    local work=$1 requirements=$2 stamp
    # The list of packages is part of the name of what was made from it.
    stamp=$work/venv/made-$(sha256sum "$requirements" | cut -c1-16)
    [[ -e $stamp ]] && return
    mkdir -p "$work"
    (
        flock 9
        [[ -e $stamp ]] && exit
        echo "making $work/venv, once" >&2
        rm -rf "$work/venv"
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" >&2
        touch "$stamp"
    ) 9>"$work/venv.lock"
}
