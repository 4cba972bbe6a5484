# shellcheck shell=bash
# Tests of the shell provisioner. Sourced by run.sh.

test_shell_inline_is_one_script() {
  expect_done shell "inline=('word=kept' 'cd /tmp' 'echo \"\$word in \$PWD as \$(id -un)\"')"
  expect_said 'kept in /tmp as root'
}

test_shell_inline_stops_at_the_first_failure() {
  expect_refused shell "inline=('false' 'echo after')"
  expect_unsaid after
  expect_said 'the inline script ended with exit code 1 (accepted: 0)'
}

test_shell_values_are_never_code() {
  local nasty="it's \$(touch /tmp/x) \`touch /tmp/x\` \"; touch /tmp/x #"
  expect_done shell "inline=('printf \"%s|%s\" \"\$A\" \"\$1\"'); declare -A env=([A]=$(printf %q "$nasty"))
    args=($(printf %q "$nasty"))"
  expect_said "$nasty|$nasty"
  expect_no_file /tmp/x
}

test_shell_exit_codes() {
  expect_done shell "inline=('exit 3'); exit_codes=(0 3)"
  expect_refused shell "inline=('exit 4'); exit_codes=(0 3)"
  expect_said 'exit code 4 (accepted: 0, 3)'
}

test_shell_names_the_signal() {
  expect_refused shell "inline=('kill -9 \$\$')"
  expect_said 'the inline script was ended by SIGKILL'
  expect_unsaid Killed
}

test_shell_user_and_directory() {
  in_guest useradd -m analyst
  expect_done shell "inline=('id -un; pwd; echo \"\$HOME \$USER \$LOGNAME\"'); user=analyst"
  expect_said $'analyst\n/home/analyst\n/home/analyst analyst analyst'
  expect_done shell "inline=(pwd); user=analyst; directory=/tmp"
  expect_same "$OUTPUT" /tmp 'the directory'
  expect_refused shell "inline=('cat /run/dsimg/stage-*/params.sh /run/dsimg/stage-$((STAGE + 1))/params.sh'); user=analyst"
  expect_said 'Permission denied'
}

test_shell_script_with_and_without_shebang() {
  printf '#!/usr/bin/perl\nprint "perl @ARGV\\n";\n' >"$WORK/one.pl"
  printf 'echo "bash ${BASH_VERSION%%%%.*} $1"\n' >"$WORK/two.sh"
  in_guest useradd -m analyst
  prepare_stage shell "scripts=(/run/dsimg/stage-1/uploads/scripts/one.pl /run/dsimg/stage-1/uploads/scripts/two.sh)
    args=('a b'); user=analyst"
  upload scripts "$WORK/one.pl"
  upload scripts "$WORK/two.sh"
  run_stage shell
  expect_said $'perl a b\nbash 5 a b'
}

test_shell_refuses_windows_line_ends() {
  printf '#!/bin/sh\r\necho hi\r\n' >"$WORK/dos.sh"
  prepare_stage shell 'script=/run/dsimg/stage-1/uploads/script/dos.sh'
  upload script "$WORK/dos.sh"
  run_stage shell
  expect_said '`dos.sh` has Windows line ends'
}

test_shell_a_second_try_works() {
  in_guest useradd -m analyst
  prepare_stage shell "inline=('test -e /tmp/second || { touch /tmp/second; exit 1; }'); user=analyst"
  run_stage shell
  expect_same "$STATUS" 1 'the first try'
  run_stage shell
  expect_same "$STATUS" 0 'the second try'
}

test_shell_refusals_say_what_to_do() {
  expect_refused shell ''
  expect_said 'the stage runs nothing' 'give `inline`, `script` or `scripts`'
  expect_refused shell 'inline=(true); user=nobody-here'
  expect_said 'there is no user `nobody-here` in the machine'
  expect_refused shell 'inline=(true); directory=/not/there'
  expect_said 'there is no directory `/not/there` in the machine'
  expect_refused shell "inline=(true); declare -A env=(['A-B']=1)"
  expect_said '`A-B` can'"'"'t be the name of an environment variable'
}
