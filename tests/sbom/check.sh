#!/usr/bin/env bash
# Validates bills of materials against CycloneDX's official schema, reads them and counts their components.
#
#   tests/sbom/check.sh FILE...
#
# It makes a Python environment once, in DSIMG_SBOM_CHECK (default /var/tmp/dsimg-sbom-check).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../venv.sh"
work=${DSIMG_SBOM_CHECK:-/var/tmp/dsimg-sbom-check}

(($#)) || { sed -n '2,6s/^# \?//p' "$0" >&2; exit 2; }
make_venv "$work" "$here/requirements.txt"
exec "$work/venv/bin/python" -B "$here/check.py" "$@"
