#!/usr/bin/env bash
# Validates bills of materials against CycloneDX's official schema, reads them and counts their components.
#
#   tests/sbom/check.sh FILE...
#
# It makes a Python environment once, in DSIMG_SBOM_CHECK (default /var/tmp/dsimg-sbom-check).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${DSIMG_SBOM_CHECK:-/var/tmp/dsimg-sbom-check}

make_venv() {
    # The list of packages is part of the name of what was made from it.
    local stamp
    stamp=$work/venv/made-$(sha256sum "$here/requirements.txt" | cut -c1-16)
    [[ -e $stamp ]] && return
    mkdir -p "$work"
    (
        flock 9
        [[ -e $stamp ]] && exit
        echo "making $work/venv, once" >&2
        rm -rf "$work/venv"
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
        touch "$stamp"
    ) 9>"$work/venv.lock"
}

(($#)) || { sed -n '2,6s/^# \?//p' "$0" >&2; exit 2; }
make_venv
exec "$work/venv/bin/python" -B "$here/check.py" "$@"
