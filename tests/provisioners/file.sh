# shellcheck shell=bash
# Tests of the file provisioner. Sourced by run.sh.

test_file_content_with_owner_and_mode() {
  in_guest useradd -m analyst
  expect_done file "content=\$'a\\nb'; destination=/srv/x/y/a.txt; owner=analyst; mode=0640"
  expect_same "$(<"$GUEST/srv/x/y/a.txt")" $'a\nb' 'the content'
  expect_owner /srv/x/y/a.txt analyst:analyst 640
  expect_owner /srv/x/y analyst:analyst 755
  expect_owner /srv root:root 755
}

test_file_content_replaces_whole() {
  expect_done file "content=first; destination=/etc/a.conf"
  expect_done file "content='second, longer'; destination=/etc/a.conf; group=adm"
  expect_same "$(<"$GUEST/etc/a.conf")" 'second, longer' 'the content'
  expect_owner /etc/a.conf root:adm 644
  expect_same "$(cd "$GUEST/etc" && echo .dsimg-*)" '.dsimg-*' 'what is left over'
}

# The engine has put the files to their places before the script runs.
test_file_uploads_get_owner_and_mode() {
  in_guest useradd -m analyst
  in_guest mkdir -p /data/old
  in_guest touch /data/old/mine
  sleep 1.1
  prepare_stage file "source=/data; source_files=(/data/one /data/new /data/new/two /data/old/three /data/link)
    destination=/data; owner=analyst; mode=0600; folder_mode=0750"
  in_guest bash -c 'mkdir /data/new; touch /data/one /data/new/two /data/old/three; ln -s one /data/link'
  run_stage file
  expect_same "$STATUS" 0 'the status'
  expect_owner /data/one analyst:analyst 600
  expect_owner /data/new analyst:analyst 750
  expect_owner /data/new/two analyst:analyst 600
  expect_owner /data/link analyst:analyst 777
  expect_owner /data/old/mine root:root 644
  expect_owner /data/old root:root 755
  expect_owner /data root:root 755
}

test_file_refusals_say_what_to_do() {
  expect_refused file ''
  expect_said 'the stage moves nothing'
  expect_refused file 'content=a; fetch=/etc/fstab'
  expect_said 'the stage has `content`, `fetch`'
  expect_refused file 'content=a; destination=relative'
  expect_said 'give an absolute path'
  expect_refused file 'content=a; destination=/etc/'
  expect_said 'name the file that gets `content`'
  expect_refused file 'content=a; destination=/a; mode=9'
  expect_said 'write an octal mode, such as "0644"'
  expect_refused file 'content=a; destination=/a; owner=nobody-here'
  expect_said 'there is no user `nobody-here` in the machine'
  expect_refused file 'fetch=/not/there'
  expect_said 'there is no `/not/there` in the machine'
  expect_done file 'fetch=/etc/os-release'
}
