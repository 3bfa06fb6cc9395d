#!/usr/bin/env bash
# Builds a current Docker engine from the Go module proxy and runs it next to the one of
# the machine, for the tests that want a second generation of engines. Needs root, Go, a
# C compiler, containerd, iproute2, libseccomp-dev and pkg-config.
#
#   scripts/current-engine.sh DIR     builds it in DIR if need be, and runs it until Ctrl-C
#
# In another terminal, with DIR/bin first on PATH for the tests with engines of their own:
#
#   PATH=DIR/bin:$PATH DOCKER_HOST=unix://DIR/docker.sock KITT_TEST_DOCKER=1 go test ./runner/docker
set -euo pipefail

MOBY=github.com/moby/moby/v2/cmd/dockerd@v2.0.0-beta.24
RUNC=github.com/opencontainers/runc@v1.3.3

[ $# = 1 ] || { sed -n 2,11p "$0" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
dir=$PWD

# build NAME PACKAGE@VERSION FLAGS... builds a program in a module of its own.
build() {
  local name=$1 package=${2%@*} version=$2
  shift 2
  [ -x "$dir/bin/$name" ] && return
  mkdir -p "$dir/build-$name"
  (
    cd "$dir/build-$name"
    printf 'module build\ngo 1.26\n' >go.mod
    printf '//go:build tools\npackage build\nimport _ "%s"\n' "$package" >tools.go
    GOFLAGS=-mod=mod go get "$version"
    go build "$@" -o "$dir/bin/$name" "$package"
  )
}
build dockerd "$MOBY"
CGO_ENABLED=1 build runc "$RUNC" -tags seccomp

printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >containerd.toml
echo '{}' >daemon.json
mkdir -p cdi
export PATH=$dir/bin:$PATH
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
containerd --config containerd.toml --root "$dir/c-root" --state "$dir/c-run" --address "$dir/containerd.sock" >containerd.log 2>&1 &
# In the machine's network it would take down the bridge of the machine's own engine.
# shellcheck disable=SC2016 # expanded by that shell
unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
  dockerd --config-file daemon.json --containerd "$dir/containerd.sock" --data-root "$dir/data" --exec-root "$dir/exec" \
  -H "unix://$dir/docker.sock" --pidfile "$dir/docker.pid" --storage-driver=vfs --cdi-spec-dir "$dir/cdi" \
  --bridge=none --iptables=false --ip6tables=false --ip-masq=false >dockerd.log 2>&1 &
printf 'DOCKER_HOST=unix://%s/docker.sock\n' "$dir"
wait -n
tail -n 5 containerd.log dockerd.log >&2
