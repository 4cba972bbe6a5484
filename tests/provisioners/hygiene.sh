# shellcheck shell=bash
# Tests of the hygiene provisioner on a tree that has been used. Sourced by run.sh.

BUILD_KEY=AAAAC3NzaC1lZDI1NTE5AAAAIBuildKeyOfTheTests
OTHER_KEY=AAAAC3NzaC1lZDI1NTE5AAAAIKeyOfOperations

# What a build leaves behind, by the hand that leaves it.
use_the_machine() { # LOGIN
  in_guest useradd -m "$1"
  in_guest bash -s "$1" "$BUILD_KEY" "$OTHER_KEY" <<'END'
mkdir -p /home/$1/.ssh /root/.ssh /var/lib/cloud/instances/i-1/sem /run/cloud-init /etc/sudoers.d /etc/ssh \
  /var/lib/systemd/timers /var/lib/dhcp /root/.cache/pip/http /var/log/journal/0123 /var/lib/dbus /usr/bin \
  /var/lib/cloud/scripts/per-boot /etc/netplan
ln -s instances/i-1 /var/lib/cloud/instance
printf '#cloud-config\n{"ssh_authorized_keys": ["ssh-ed25519 %s dsimg"]}\n' "$2" >/var/lib/cloud/instance/user-data.txt
printf 'no-pty,command="echo \\"no\\"" ssh-ed25519 %s dsimg\nssh-ed25519 %s ops\n' "$2" "$3" >/root/.ssh/authorized_keys
printf 'ssh-ed25519 %s dsimg\n' "$2" >/home/$1/.ssh/authorized_keys
printf '# Created by cloud-init\n\n# User rules for %s\n%s ALL=(ALL) NOPASSWD:ALL\n' "$1" "$1" \
  >/etc/sudoers.d/90-cloud-init-users
echo "2026-11-21 [DEBUG]: Adding user $1" >/var/log/cloud-init.log
touch /usr/bin/cloud-init /var/lib/cloud/scripts/per-boot/ours /etc/netplan/50-cloud-init.yaml
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
cp /etc/machine-id /var/lib/dbus/machine-id
echo key >/etc/ssh/ssh_host_ed25519_key
echo hub >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 hub.example.org hub\n192.0.2.7 data\n' >/etc/hosts
echo seed >/var/lib/systemd/random-seed
echo lease >/var/lib/dhcp/dhclient.leases
for file in /root/.bash_history /root/.python_history /root/.cache/pip/http/a /root/.ssh/known_hosts /tmp/a /var/tmp/b \
  /var/log/journal/0123/system.journal /var/log/service.log /var/log/old.log.1 /var/lib/apt/lists/x_Packages \
  /var/cache/apt/pkgcache.bin /etc/app.conf.dpkg-old /var/lib/systemd/timers/stamp-a.timer; do echo trace >$file; done
printf '#!/bin/sh\n# made by dsimg\nexit 101\n' >/usr/sbin/policy-rc.d
mkdir -p /var/cache/dsimg/r /root/.cache/huggingface
echo model >/root/.cache/huggingface/model
END
}

test_hygiene_removes_every_trace() {
  use_the_machine dsimg
  expect_done hygiene 'build_user=dsimg'
  expect_same "$(stat -c '%s %a' "$GUEST/etc/machine-id")" '0 444' 'size and mode of machine-id'
  expect_same "$(readlink "$GUEST/var/lib/dbus/machine-id")" /etc/machine-id 'the machine-id of dbus'
  expect_no_file /etc/ssh/ssh_host_ed25519_key /etc/sudoers.d/90-cloud-init-users /home/dsimg /etc/netplan/50-cloud-init.yaml \
    /var/lib/cloud/{instance,instances,data,sem,seed} /var/lib/systemd/random-seed /usr/sbin/policy-rc.d \
    /root/.bash_history /root/.python_history /root/.cache/pip /root/.ssh/known_hosts /var/log/cloud-init.log \
    /var/log/old.log.1 /var/cache/apt/pkgcache.bin /etc/app.conf.dpkg-old /var/cache/dsimg /etc/passwd- /etc/shadow- \
    /var/lib/systemd/timers/stamp-a.timer
  expect_empty /tmp /var/tmp /var/lib/dhcp /var/log/journal
  expect_same "$(find "$GUEST/var/lib/apt/lists" -type f)" '' 'what is left of the package lists'
  expect_same "$(find "$GUEST/var/log" -type f -size +0)" '' 'logs with content'
  expect_file /var/log/service.log
  expect_same "$(<"$GUEST/etc/hostname")" localhost 'the host name'
  expect_same "$(<"$GUEST/etc/hosts")" $'127.0.0.1 localhost\n192.0.2.7 data' 'the hosts file'
  expect_same "$(grep -c dsimg "$GUEST"/etc/{passwd,shadow,group,gshadow,subuid,subgid} | grep -v ':0$')" '' 'the accounts'
}

# What the template put there is the image's, not the build's.
test_hygiene_keeps_what_is_the_images() {
  use_the_machine dsimg
  expect_done hygiene 'build_user=dsimg'
  expect_same "$(<"$GUEST/root/.ssh/authorized_keys")" "ssh-ed25519 $OTHER_KEY ops" 'the keys of root'
  expect_file /var/lib/cloud/scripts/per-boot/ours
  expect_file /root/.cache/huggingface/model
  expect_file /root/.bashrc
}

test_hygiene_knows_whose_login_it_is() {
  use_the_machine analyst
  expect_done hygiene 'build_user=analyst'
  expect_no_file /home/analyst
}

test_hygiene_leaves_the_bases_login() {
  use_the_machine analyst
  echo '[INFO]: User analyst already exists, skipping.' >"$GUEST/var/log/cloud-init.log"
  expect_done hygiene 'build_user=analyst'
  expect_said 'the login analyst belongs to the base and stays'
  expect_file /home/analyst
  expect_no_file /home/analyst/.ssh/authorized_keys /etc/sudoers.d/90-cloud-init-users
}

test_hygiene_without_cloud_init_ssh_makes_its_keys() {
  use_the_machine dsimg
  rm "$GUEST/usr/bin/cloud-init"
  touch "$GUEST/usr/sbin/sshd"
  expect_done hygiene 'build_user=dsimg'
  expect_same "$(grep -c ssh-keygen "$GUEST/etc/systemd/system/ssh.service.d/10-host-keys.conf")" 1 'the unit'
}

test_hygiene_keeps_the_network_only_when_asked() {
  use_the_machine dsimg
  GUEST_ENV+=(http_proxy=http://proxy.example.org:3128 https_proxy=http://proxy.example.org:3128
    DSIMG_KEEP_PIP=https://pypi.example.org/simple)
  mkdir -p "$GUEST/run/dsimg/apt-mirror"
  echo 'deb http://mirror.example.org/debian trixie main' >"$GUEST/run/dsimg/apt-mirror/sources.list"
  expect_done hygiene 'build_user=dsimg'
  expect_same "$(grep -rl example.org "$GUEST/etc" --include='*' | grep -v /etc/hosts)" '' 'files that name the network'
  expect_done hygiene 'build_user=dsimg; keep_network=true'
  expect_same "$(<"$GUEST/etc/apt/sources.list")" 'deb http://mirror.example.org/debian trixie main' 'the apt sources'
  grep -q 'https_proxy=http://proxy.example.org:3128' "$GUEST/etc/environment" || unmet 'the proxy in /etc/environment'
  grep -q 'index-url = https://pypi.example.org/simple' "$GUEST/etc/pip.conf" || unmet 'the index in pip.conf'
  # The host's own authorities, which the tree does not have.
  expect_said 'certificates in /usr/local/share/ca-certificates'
  local count
  count=$(grep -c 'BEGIN CERT' "$GUEST/etc/ssl/certs/ca-certificates.crt")
  ((count >= $(grep -c 'BEGIN CERT' "$GUEST/run/dsimg/ca.pem"))) || unmet 'all certificates in the store'
}
