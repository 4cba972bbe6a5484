# shellcheck shell=bash
# Tests of the pip provisioner. Sourced by run.sh. They fetch small packages from PyPI.

prepare_pip() {
  if [[ -z $UV ]]; then
    echo 'there is no uv on this host: put its path into $UV (its wheel on PyPI holds the program)'
    return 1
  fi
}

test_pip_makes_the_environment() {
  expect_done pip "packages=('idna>=3' 'Typing.Extensions==4.12.2' click)"
  expect_said 'making the virtual environment /opt/venv' '+ typing-extensions==4.12.2'
  in_guest /opt/venv/bin/python -c 'import idna, click, typing_extensions'
  local frozen
  frozen=$(freeze pip)
  expect_frozen "$frozen" $'pypi\ttyping-extensions\t4.12.2\t\tvenv:/opt/venv\t1'
  expect_frozen "$frozen" $'pypi\tidna\t3*\t\tvenv:/opt/venv\t1'
  expect_same "$(cut -f2 <<<"$frozen" | sort | tr '\n' ' ')" 'click idna pip typing-extensions ' 'the packages'
  # The same as the environment's own metadata.
  expect_same "$(cut -f2,3 <<<"$frozen" | tr '\t' '=')" "$(in_guest /opt/venv/bin/python -c '
import importlib.metadata as m, re
print("\n".join(sorted(re.sub(r"[-_.]+", "-", d.name).lower() + "=" + d.version for d in m.distributions())))')" 'the freeze'
  # Nothing of uv stays, and later work needs no tricks.
  expect_no_file /var/cache/dsimg/uv /root/.cache /root/.local /opt/venv/.lock /opt/venv/CACHEDIR.TAG
  [[ -n $(find "$GUEST/opt/venv" -name '*.pyc' | head -n 1) ]] || unmet 'bytecode'
  in_guest /opt/venv/bin/pip install --quiet six
}

# The sets of two functions become one object or two, by what the process that compiles them has seen before.
test_pip_compiles_a_package_to_the_same_bytes_whatever_is_beside_it() {
  expect_done pip 'packages=(click)'
  expect_said 'compiled '
  local packages compiled
  packages=$(echo "$GUEST"/opt/venv/lib/python3*/site-packages)
  mkdir "$packages"/{aaa,zzz}
  printf 'def f(x): return x in {"one", "of_zzz"}\ndef g(x): return x in {"one", "of_zzz"} or 7\n' >"$packages/zzz/sets.py"
  echo 'print "Python 2"' >"$packages/zzz/template.py"
  expect_done pip 'packages=(click)'
  compiled=$(sha256sum "$packages"/zzz/__pycache__/*)
  rm -r "$packages/zzz/__pycache__"
  echo 'import of_zzz' >"$packages/aaa/names.py"
  expect_done pip 'packages=(click)'
  expect_same "$(sha256sum "$packages"/zzz/__pycache__/*)" "$compiled" 'the bytecode'
  # What one process gives after the other package: otherwise this test shows nothing.
  rm -r "$packages/zzz/__pycache__"
  in_guest /opt/venv/bin/python -S -c '
import py_compile, sys
for path in sys.argv[1:]: py_compile.compile(path, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)' \
    "${packages#"$GUEST"}"/{aaa/names,zzz/sets}.py
  [[ $(sha256sum "$packages"/zzz/__pycache__/*) != "$compiled" ]] || unmet 'bytecode that depends on what is beside it'
}

test_pip_compiles_once() {
  expect_done pip 'packages=(click six)'
  local packages
  packages=$(echo "$GUEST"/opt/venv/lib/python3*/site-packages)
  find "$packages" -name '*.pyc' -exec touch -d 2001-01-01 {} +
  echo 'x = 2' >>"$packages/click/types.py"
  mkdir "$packages/click/tests"
  echo 'x = 3' >"$packages/click/tests/of_click.py"
  expect_done pip 'packages=(idna)'
  [[ -n $(find "$packages/idna" -name '*.pyc' -newermt 2002-01-01) ]] || unmet 'new bytecode'
  [[ -n $(find "$packages/click" -name 'types.*.pyc' -newermt 2002-01-01) ]] || unmet 'bytecode of a changed module'
  [[ -z $(find "$packages/__pycache__" -name 'six.*.pyc' -newermt 2002-01-01) ]] || unmet 'bytecode that was left alone'
  expect_no_file "${packages#"$GUEST"}/click/tests/__pycache__" "${packages#"$GUEST"}/pip/__pycache__"
}

test_pip_tells_what_was_asked_for() {
  expect_done pip 'packages=(requests)'
  expect_frozen "$(freeze pip)" $'pypi\trequests\t*\t1'
  expect_frozen "$(freeze pip)" $'pypi\turllib3\t*\t0'
  # Asked for later, and left alone by what comes after.
  expect_done pip 'packages=(idna)'
  expect_frozen "$(freeze pip)" $'pypi\trequests\t*\t1'
  in_guest /opt/venv/bin/pip check
}

test_pip_two_stages_share_an_environment() {
  expect_done pip 'packages=(click); compile=false'
  expect_done pip 'packages=(idna)'
  expect_unsaid 'making the virtual environment'
  expect_frozen "$(freeze pip)" $'pypi\tidna\t*'
  expect_refused pip 'packages=(idna); python=3.9'
  expect_said 'was made with Python 3.13' 'the stage asks for 3.9'
}

test_pip_reads_files() {
  printf 'click\n# a comment\nidna<4\n' >"$WORK/requirements.txt"
  printf 'idna<3.7\n' >"$WORK/constraints.txt"
  cat >"$WORK/pyproject.toml" <<'END'
[project]
name = "ours"
version = "1"
dependencies = ["six"]
[project.optional-dependencies]
more = ["toolz"]
[dependency-groups]
dev = ["iniconfig"]
END
  echo zipp | "$UV" pip compile --quiet --no-header --output-file "$WORK/pylock.toml" -
  local up=/run/dsimg/stage-1/uploads
  prepare_stage pip "requirements=($up/requirements/requirements.txt) constraints=($up/constraints/constraints.txt)
    pyproject=$up/pyproject/pyproject.toml extras=(more) groups=(dev) pylock=$up/pylock/pylock.toml venv=/srv/ds"
  upload requirements "$WORK/requirements.txt"
  upload constraints "$WORK/constraints.txt"
  upload pyproject "$WORK/pyproject.toml"
  upload pylock "$WORK/pylock.toml"
  run_stage pip
  expect_same "$STATUS" 0 'the status'
  local frozen
  frozen=$(freeze pip)
  expect_frozen "$frozen" $'pypi\tidna\t3.6\t\tvenv:/srv/ds\t1'
  for name in click six toolz iniconfig zipp; do expect_frozen "$frozen" $'pypi\t'"$name"$'\t*\t\tvenv:/srv/ds\t?'; done
  expect_unsaid 'ours'
}

test_pip_group_may_install() {
  in_guest groupadd science
  in_guest useradd -m -G science analyst
  expect_done pip 'packages=(click); writable_by=science'
  in_guest setpriv --reuid analyst --regid analyst --init-groups env HOME=/home/analyst \
    /opt/venv/bin/pip install --quiet six
  expect_frozen "$(freeze pip)" $'pypi\tsix\t*'
}

test_pip_packages_that_do_not_fit() {
  expect_done pip "packages=(requests)"
  expect_refused pip "packages=('urllib3<1.20')"
  expect_said "don't fit each other"
  expect_done pip "packages=('urllib3<1.20'); check=false"
}

test_pip_refusals_say_what_to_do() {
  expect_refused pip 'packages=(no-such-package-of-dsimg-tests)'
  expect_said 'pip packages were not installed' 'no-such-package-of-dsimg-tests'
  expect_refused pip "packages=('--index-url=x')"
  expect_said 'options go into a requirements file'
  expect_refused pip 'packages=(click); python=3.6; venv=/opt/other'
  expect_said 'there is no Python `3.6` in the machine; it has 3.13'
  expect_refused pip 'packages=(click); venv=relative'
  expect_said 'give an absolute path'
  expect_refused pip 'packages=(click); venv=/etc'
  expect_said '`/etc` exists and is no virtual environment'
  expect_refused pip 'packages=(click); writable_by=no-group'
  expect_said 'there is no group `no-group`'
  rm "$GUEST/usr/bin/python3"
  expect_refused pip 'packages=(click); venv=/opt/other'
  expect_said 'there is no Python in the machine' 'put `python3` into'
}

# The registry's certificate is the machine's only when it knows who signed it.
test_pip_says_what_to_set_for_tls() {
  trust_nobody
  printf '' >"$GUEST/etc/ssl/certs/ca-certificates.crt"
  GUEST_ENV+=(SSL_CERT_FILE=/etc/ssl/certs/empty.pem)
  cat "$GUEST"/usr/share/ca-certificates/mozilla/ISRG*.crt >"$GUEST/etc/ssl/certs/empty.pem"
  expect_refused pip 'packages=(click)'
  expect_said 'is signed by none of those that `[network] ca` names'
}
