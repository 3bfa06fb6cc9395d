#!/usr/bin/env bash
# A machine that is run by a real systemd, in a container, for the tests of
# `kitt-agent service`: KITT_TEST_SYSTEMD=1 go test -run TestSystemd ./cmd/kitt-agent
#
#   scripts/systemd-machine.sh start NAME   start one in the network of this machine
#   scripts/systemd-machine.sh boot NAME    stop it and start it again
#   scripts/systemd-machine.sh remove NAME  remove it
#   scripts/systemd-machine.sh clean        remove the image
#
# The first start makes the image, which takes a minute or two and a Debian
# mirror. It needs root, Docker and debootstrap.
#
#   KITT_SYSTEMD_SUITE    Debian's release, bookworm by default
#   KITT_SYSTEMD_CGROUP   control groups that the machine sees, /sys/fs/cgroup by default;
#                         /sys/fs/cgroup/unified is version 2 where both are mounted
#   KITT_SYSTEMD_MIRROR   where its packages are, http://deb.debian.org/debian by default
set -euo pipefail

suite=${KITT_SYSTEMD_SUITE:-bookworm}
mirror=${KITT_SYSTEMD_MIRROR:-http://deb.debian.org/debian}
cgroup=${KITT_SYSTEMD_CGROUP:-/sys/fs/cgroup}
image=kitt-systemd-machine:$suite
packages=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,sudo,procps

fail() { printf '%s\n' "$*" >&2; exit 1; }

build() {
  docker image inspect "$image" >/dev/null 2>&1 && return
  command -v debootstrap >/dev/null || fail 'debootstrap is missing: apt-get install debootstrap'
  [ "$(id -u)" = 0 ] || fail 'debootstrap needs root'
  local dir
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'" EXIT
  debootstrap --variant=minbase --include="$packages" "$suite" "$dir/root" "$mirror" >"$dir/log" 2>&1 || {
    tail -n 20 "$dir/log" >&2
    fail 'the image could not be made'
  }
  rm -f "$dir"/root/var/cache/apt/archives/*.deb
  tar -C "$dir/root" -c . | docker import - "$image" >/dev/null
}

# ready waits until systemd has started what it starts at boot.
ready() {
  local state
  for _ in $(seq 120); do
    # It exits with 1 for a machine that is up with a unit that failed.
    state=$(docker exec "$1" systemctl is-system-running 2>/dev/null || true)
    case $state in running | degraded) return ;; esac
    sleep 0.5
  done
  docker logs --tail 30 "$1" >&2
  fail "systemd is not up: ${state:-no answer}"
}

case ${1:-} in
start)
  build
  namespace=host
  # Version 2 is mounted as a whole, so the machine needs a view of its own part.
  [ ! -e "$cgroup/cgroup.controllers" ] || namespace=private
  # What systemd needs and no more: a container with --privileged asks for
  # capabilities that this machine may not have itself.
  docker run --detach --name "$2" --network host --cgroupns "$namespace" \
    --cap-add SYS_ADMIN --cap-add SYS_PTRACE \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --tmpfs /run:exec --tmpfs /run/lock --tmpfs /tmp:exec \
    --volume "$cgroup:/sys/fs/cgroup:rw" --env container=docker \
    "$image" /lib/systemd/systemd >/dev/null
  ready "$2"
  ;;
boot)
  docker restart --time 30 "$2" >/dev/null
  ready "$2"
  ;;
remove) docker rm --force --volumes "$2" >/dev/null ;;
clean) docker image rm "$image" >/dev/null ;;
*) fail 'start NAME, boot NAME, remove NAME or clean is missing' ;;
esac
