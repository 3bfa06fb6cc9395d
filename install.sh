#!/bin/sh
# Installs kitt-agent on a Linux machine.
#
#   sh install.sh --server https://server:8080      from a KITT server
#   sh install.sh --from DIRECTORY|URL              from a release
#   sh install.sh --from kitt-agent_v1.0.0.tar.gz   from an update package
#
# It may be run again at any time. All of it is in functions, and the last line
# calls them: a script that was cut while it came does nothing.
set -eu

usage() {
  cat <<'TEXT'
usage: install.sh (--server URL | --from DIRECTORY|FILE|URL) [options]

  --server URL       KITT server to install from and to register with
  --from WHERE       a release's directory or address (with SHA256SUMS in it), or
                     an update package (.tar.gz)
  --sha256 DIGEST    SHA-256 that an update package must have
  --ca FILE          certificate authority of the server or address
  --dir DIRECTORY    where kitt-agent goes (default /usr/local/bin, or
                     ~/.local/bin where that needs root and you are not)
  --init             write agent.yaml (needs --server)
  --token-file FILE  the agent's token, for --init
  --build            build the container image that benchmarks run in
  --service          have systemd start the agent
  --no-preflight     do not check the machine
TEXT
}

say() { printf '%s\n' "$*" >&2; }
die() { say "install.sh: $*"; exit 1; }
wrong() { say "install.sh: $*"; usage >&2; exit 2; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is needed; install it and run this again"; }

# as_owner runs a command as who may write to the directory of the program.
as_owner() { if [ -n "$sudo" ]; then sudo -- "$@"; else "$@"; fi; }

# fetch URL FILE downloads a file, resuming where a connection is cut.
fetch() {
  set -- "$1" "$2" --fail --silent --show-error --location --proto '=http,https' \
    --connect-timeout 10 --speed-limit 1 --speed-time 60 --retry 3 --max-filesize 1073741824
  [ -z "$ca" ] || set -- "$@" --cacert "$ca"
  url=$1 file=$2
  shift 2
  curl "$@" --output "$file" "$url" || die "$url could not be downloaded"
}

# check FILE DIGEST compares a file with its SHA-256.
check() {
  got=$(sha256sum <"$1") got=${got%% *}
  [ "$got" = "$2" ] || die "$3 is damaged or another one: its SHA-256 is $got, and should be $2"
}

# listed SUMS NAME prints a file's digest.
listed() {
  while read -r digest name; do
    [ "${name#\*}" = "$2" ] && { printf '%s\n' "$digest"; return 0; }
  done <"$1"
  return 1
}

# unpack PACKAGE takes this platform's program out of an update package.
unpack() {
  tar -tzf "$1" >"$tmp/list" 2>/dev/null || die 'the package is no tar.gz'
  if grep -q '/PKG-INFO$' "$tmp/list"; then
    die 'this is the package of the Python agent; use --from with a release of kitt-agent'
  fi
  tar -xzOf "$1" SHA256SUMS >"$tmp/sums" 2>/dev/null || die 'the package holds no SHA256SUMS, so it is none of kitt-agent'
  digest=$(listed "$tmp/sums" "$platform/kitt-agent") || die "the package has no program for $platform"
  tar -xzOf "$1" "$platform/kitt-agent" >"$tmp/kitt-agent" || die 'the package is damaged'
  check "$tmp/kitt-agent" "$digest" "$platform/kitt-agent"
}

# get brings the program to $tmp/kitt-agent.
get() {
  case $from in
  '')
    query="os=${platform%_*}&arch=${platform#*_}"
    say "Downloading kitt-agent from $server"
    fetch "$server/api/v1/agent/package/sha256?$query" "$tmp/digest"
    digest=$(sed -n 's/.*"sha256"[^0-9a-f]*\([0-9a-f]\{64\}\).*/\1/p' "$tmp/digest")
    [ -n "$digest" ] || die 'the server gives no SHA-256 of its package'
    fetch "$server/api/v1/agent/package?$query" "$tmp/package"
    check "$tmp/package" "$digest" 'the package'
    unpack "$tmp/package"
    ;;
  *.tar.gz)
    case $from in
    http://*) [ -n "$sha256" ] || wrong 'a package that comes over http needs --sha256' ;;
    esac
    case $from in
    http://* | https://*) fetch "$from" "$tmp/package" ;;
    *) cp -- "$from" "$tmp/package" || die "$from can't be read" ;;
    esac
    [ -z "$sha256" ] || check "$tmp/package" "$sha256" 'the package'
    unpack "$tmp/package"
    ;;
  *)
    name=kitt-agent_$platform
    case $from in
    http://*) wrong 'a release has to come over https or from a directory' ;;
    https://*) fetch "${from%/}/SHA256SUMS" "$tmp/sums" && fetch "${from%/}/$name" "$tmp/kitt-agent" ;;
    *)
      { cp -- "$from/SHA256SUMS" "$tmp/sums" && cp -- "$from/$name" "$tmp/kitt-agent"; } ||
        die "$from holds no release of kitt-agent"
      ;;
    esac
    digest=$(listed "$tmp/sums" "$name") || die "SHA256SUMS does not name $name"
    check "$tmp/kitt-agent" "$digest" "$name"
    ;;
  esac
}

# choose_dir finds out where the program goes and whether that takes sudo.
choose_dir() {
  sudo=''
  if [ -z "$dir" ]; then
    dir=/usr/local/bin
    if [ ! -w "$dir" ] && ! command -v sudo >/dev/null 2>&1; then dir=${HOME:?}/.local/bin; fi
  fi
  parent=$dir
  while [ ! -d "$parent" ]; do parent=$(dirname -- "$parent"); done
  [ -w "$parent" ] || {
    command -v sudo >/dev/null 2>&1 || die "you may not write to $dir; name another directory with --dir"
    sudo=yes
  }
}

main() {
  server='' from='' sha256='' ca='' dir='' token=''
  init='' build='' service='' preflight=yes
  while [ $# -gt 0 ]; do
    case $1 in
    --server | --from | --sha256 | --ca | --dir | --token-file)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      case $1 in
      --server) server=${2%/} ;;
      --from) from=$2 ;;
      --sha256) sha256=$2 ;;
      --ca) ca=$2 ;;
      --dir) dir=$2 ;;
      --token-file) token=$2 ;;
      esac
      shift
      ;;
    --init) init=yes ;;
    --build) build=yes ;;
    --service) service=yes ;;
    --no-preflight) preflight='' ;;
    -h | --help) usage; exit 0 ;;
    *) wrong "$1 is not known" ;;
    esac
    shift
  done
  [ -n "$server$from" ] || wrong '--server or --from is missing'
  [ -z "$init" ] || [ -n "$server" ] || wrong '--init needs --server'
  [ "$(uname -s)" = Linux ] || die 'kitt-agent runs on Linux'
  case $(uname -m) in
  x86_64 | amd64) platform=linux_amd64 ;;
  aarch64 | arm64) platform=linux_arm64 ;;
  *) die "there is no kitt-agent for $(uname -m)" ;;
  esac
  for tool in curl tar sha256sum; do need "$tool"; done
  choose_dir

  tmp=$(mktemp -d)
  trap 'rm -rf -- "$tmp"' EXIT
  trap 'exit 130' INT TERM HUP
  get
  chmod 0755 "$tmp/kitt-agent"
  "$tmp/kitt-agent" version >"$tmp/version" || die 'the program does not run on this machine'

  as_owner mkdir -p -- "$dir"
  # Beside its place first, then renamed: a running agent keeps its own file.
  as_owner cp -- "$tmp/kitt-agent" "$dir/.kitt-agent.update-install"
  as_owner mv -f -- "$dir/.kitt-agent.update-install" "$dir/kitt-agent"
  say "Installed $(cat "$tmp/version") as $dir/kitt-agent"
  case :$PATH: in
  *:"$dir":*) ;;
  *) say "Note: $dir is not in your PATH" ;;
  esac

  agent=$dir/kitt-agent
  if [ -n "$init" ]; then
    set -- --server "$server"
    [ -z "$token" ] || set -- "$@" --token-file "$token"
    [ -z "$ca" ] || set -- "$@" --ca "$ca"
    "$agent" init "$@" || die "the settings were not written; try: $agent init --help"
  fi
  [ -z "$build" ] || "$agent" build || die "the image was not built; try again: $agent build"
  if [ -n "$preflight" ]; then
    "$agent" preflight || say "This machine lacks something, see above; check again with: $agent preflight"
  fi
  [ -z "$service" ] || "$agent" service install || die "the service was not installed; try again: $agent service install"
  say "To remove it: ${sudo:+sudo }rm $agent $agent.previous, and ~/.kitt with its settings and logs"
}

main "$@"
