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
  --from WHERE       a release's directory or https address (with SHA256SUMS in
                     it), or an update package: a file, or the address of a .tar.gz
  --sha256 DIGEST    SHA-256 that an update package must have
  --key KEY|FILE     Ed25519 public key that the package or release must be signed
                     with, as update.public_key of agent.yaml; needs openssl
  --ca FILE          certificate authority of the server or address
  --dir DIRECTORY    where kitt-agent goes (default /usr/local/bin, or
                     ~/.local/bin where that needs root and you are not)
  --name NAME        the agent's name at the server (default the host name)
  --port PORT        port of the agent's own API (default 8090)
  --token-file FILE  the agent's token
  --service          have systemd start the agent
  --no-build         do not build the container image that benchmarks run in
  --no-preflight     do not check the machine
  --no-init          do not write agent.yaml

What comes over http, where anybody can change it, needs --sha256 or --key.

With --server it builds the image, checks the machine and writes agent.yaml, in
this order. A machine that fails the check is left without agent.yaml.
TEXT
}

say() { printf '%s\n' "$*" >&2; }
die() { say "install.sh: $*"; exit 1; }
wrong() { say "install.sh: $*"; usage >&2; exit 2; }

# unused FLAG VALUE WHY refuses a flag that was given and would have no effect.
unused() { [ -z "$2" ] || wrong "$1 has no effect $3; leave it out"; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is needed; install it and run this again"; }

# as_owner runs a command as who may write to the directory of the program.
as_owner() { if [ -n "$sudo" ]; then sudo -- "$@"; else "$@"; fi; }

# fetch URL FILE downloads a file, resuming where a connection is cut. Redirects lead
# to https alone.
fetch() {
  set -- "$1" "$2" --fail --silent --show-error --location --proto '=http,https' --proto-redir '=https' \
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

# verify checks $tmp/sums against its signature in $tmp/sig, if a key is given.
verify() {
  [ -n "$key" ] || return 0
  text=$key
  [ ! -f "$key" ] || text=$(cat -- "$key")
  printf '%s\n' "$text" | sed '/-----/d' | base64 -d >"$tmp/key" 2>/dev/null || wrong '--key is neither a public key in base64 nor a file with one'
  if [ "$(wc -c <"$tmp/key")" -eq 32 ]; then # the key alone: what X.509 puts before it
    { printf '\060\052\060\005\006\003\053\145\160\003\041\000' && cat "$tmp/key"; } >"$tmp/der"
  else
    mv "$tmp/key" "$tmp/der"
  fi
  base64 -d <"$tmp/sig" >"$tmp/signature" 2>/dev/null || die "the signature of $1 is damaged"
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$tmp/der" -rawin -in "$tmp/sums" -sigfile "$tmp/signature" >/dev/null 2>&1 ||
    die "$1 is not signed with the key of --key"
}

# checked ADDRESS makes sure that what comes over http can be checked.
checked() {
  case $1 in
  http://*) [ -n "$sha256$key" ] || wrong 'what comes over http, where anybody can change it, needs --sha256 or --key' ;;
  esac
}

# listed SUMS NAME prints a file's digest.
listed() {
  while read -r digest name; do
    [ "${name#\*}" = "$2" ] && { printf '%s\n' "$digest"; return 0; }
  done <"$1"
  return 1
}

# try NAME says whether the program that was fetched runs here. The one with
# NVIDIA's library takes glibc; the other runs everywhere.
try() {
  chmod 0755 "$tmp/kitt-agent"
  "$tmp/kitt-agent" version >"$tmp/version" 2>/dev/null && return 0
  say "$1 does not run on this machine"
  return 1
}

# unpack PACKAGE takes this platform's program out of an update package.
unpack() {
  tar -tzf "$1" >"$tmp/list" 2>/dev/null || die 'the package is no tar.gz'
  if grep -q '/PKG-INFO$' "$tmp/list"; then
    die 'this is the package of the Python agent; use --from with a release of kitt-agent'
  fi
  tar -xzOf "$1" SHA256SUMS >"$tmp/sums" 2>/dev/null || die 'the package holds no SHA256SUMS, so it is none of kitt-agent'
  if [ -n "$key" ]; then
    tar -xzOf "$1" SHA256SUMS.sig >"$tmp/sig" 2>/dev/null || die 'the package is not signed'
  fi
  verify 'the package'
  for name in "${platform}_nvml/kitt-agent" "$platform/kitt-agent"; do
    digest=$(listed "$tmp/sums" "$name") || continue
    tar -xzOf "$1" "$name" >"$tmp/kitt-agent" || die 'the package is damaged'
    check "$tmp/kitt-agent" "$digest" "$name"
    if try "$name"; then return 0; fi
  done
  die "the package has no program for $platform"
}

# release DIRECTORY|URL takes this platform's program from a release.
release() {
  case $1 in
  http://*) wrong 'a release has to come over https or from a directory' ;;
  *) [ -z "$sha256" ] || wrong '--sha256 is the digest of an update package, and this is a release; leave it out' ;;
  esac
  case $1 in
  https://*) fetch "${1%/}/SHA256SUMS" "$tmp/sums" ;;
  *) cp -- "$1/SHA256SUMS" "$tmp/sums" || die "$1 holds no release of kitt-agent" ;;
  esac
  if [ -n "$key" ]; then
    case $1 in
    https://*) fetch "${1%/}/SHA256SUMS.sig" "$tmp/sig" ;;
    *) cp -- "$1/SHA256SUMS.sig" "$tmp/sig" || die "$1 is not signed" ;;
    esac
  fi
  verify 'the release'
  for name in "kitt-agent_${platform}_nvml" "kitt-agent_$platform"; do
    digest=$(listed "$tmp/sums" "$name") || continue
    case $1 in
    https://*) fetch "${1%/}/$name" "$tmp/kitt-agent" ;;
    *) cp -- "$1/$name" "$tmp/kitt-agent" || die "$1 lacks $name" ;;
    esac
    check "$tmp/kitt-agent" "$digest" "$name"
    if try "$name"; then return 0; fi
  done
  die "the release has no program for $platform"
}

# get brings the program to $tmp/kitt-agent.
get() {
  case $from in
  '')
    checked "$server"
    query="os=${platform%_*}&arch=${platform#*_}"
    say "Downloading kitt-agent from $server"
    fetch "$server/api/v1/agent/package/sha256?$query" "$tmp/digest"
    digest=$(sed -n 's/.*"sha256"[^0-9a-f]*\([0-9a-f]\{64\}\).*/\1/p' "$tmp/digest")
    [ -n "$digest" ] || die 'the server gives no SHA-256 of its package'
    fetch "$server/api/v1/agent/package?$query" "$tmp/package"
    check "$tmp/package" "${sha256:-$digest}" 'the package'
    unpack "$tmp/package"
    ;;
  http://*.tar.gz | https://*.tar.gz)
    checked "$from"
    fetch "$from" "$tmp/package"
    given
    ;;
  http://* | https://*) release "$from" ;;
  *)
    if [ -d "$from" ]; then release "$from"; return; fi
    [ -e "$from" ] || die "there is no $from"
    cp -- "$from" "$tmp/package" || die "$from can't be read"
    given
    ;;
  esac
}

# given takes the program out of the package that --from names.
given() {
  [ -z "$sha256" ] || check "$tmp/package" "$sha256" 'the package'
  unpack "$tmp/package"
}

# effective refuses flags that would have no effect together with the others.
effective() {
  if [ -z "$server" ]; then
    unused --name "$agent_name" 'without --server'
    unused --port "$port" 'without --server'
    unused --token-file "$token" 'without --server'
    case $from in https://*) ;; *) unused --ca "$ca" 'without --server or an https address' ;; esac
  elif [ -z "$init" ]; then
    unused --name "$agent_name" 'with --no-init'
    unused --token-file "$token" 'with --no-init'
    [ -n "$preflight" ] || unused --port "$port" 'with --no-init and --no-preflight'
  fi
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
  server='' from='' sha256='' key='' ca='' dir='' token='' agent_name='' port=''
  init=yes build=yes service='' preflight=yes
  while [ $# -gt 0 ]; do
    case $1 in
    --server | --from | --sha256 | --key | --ca | --dir | --token-file | --name | --port)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      case $1 in
      --server) server=${2%/} ;;
      --from) from=$2 ;;
      --sha256) sha256=$2 ;;
      --key) key=$2 ;;
      --ca) ca=$2 ;;
      --dir) dir=$2 ;;
      --token-file) token=$2 ;;
      --name) agent_name=$2 ;;
      --port) port=$2 ;;
      esac
      shift
      ;;
    --service) service=yes ;;
    --no-init) init='' ;;
    --no-build) build='' ;;
    --no-preflight) preflight='' ;;
    -h | --help) usage; exit 0 ;;
    *) wrong "$1 is not known" ;;
    esac
    shift
  done
  [ -n "$server$from" ] || wrong '--server or --from is missing'
  effective
  [ "$(uname -s)" = Linux ] || die 'kitt-agent runs on Linux'
  case $(uname -m) in
  x86_64 | amd64) platform=linux_amd64 ;;
  aarch64 | arm64) platform=linux_arm64 ;;
  *) die "there is no kitt-agent for $(uname -m)" ;;
  esac
  for tool in curl tar sha256sum ${key:+openssl base64}; do need "$tool"; done
  choose_dir

  tmp=$(mktemp -d)
  trap 'rm -rf -- "$tmp"' EXIT
  trap 'exit 130' INT TERM HUP
  get

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
  set_up
  [ -z "$service" ] || "$agent" service install || die "the service was not installed; try again: $agent service install"
  say "To start it: $agent start, or $agent service install"
  say "To remove it: ${sudo:+sudo }rm $agent $agent.previous, and ~/.kitt with its settings and logs"
}

# set_up does what a new agent needs, as far as a server is known.
set_up() {
  if [ -n "$ca" ]; then
    ca=$(cd "$(dirname -- "$ca")" && pwd)/$(basename -- "$ca")
    export KITT_TLS_CA="$ca"
  fi
  if [ -z "$server" ]; then
    [ -z "$preflight" ] || "$agent" preflight || say "This machine lacks something, see above; check again with: $agent preflight"
    return 0
  fi
  if [ -n "$build" ]; then
    "$agent" build --server "$server" || say "The image was not built; try again later: $agent build"
  fi
  if [ -n "$preflight" ]; then
    set -- --server "$server"
    [ -z "$port" ] || set -- "$@" --port "$port"
    "$agent" preflight "$@" || die 'this machine lacks something, see above; mend it and run this again, or leave the check out with --no-preflight'
  fi
  if [ -n "$init" ]; then
    set -- --server "$server"
    [ -z "$agent_name" ] || set -- "$@" --name "$agent_name"
    [ -z "$port" ] || set -- "$@" --port "$port"
    [ -z "$token" ] || set -- "$@" --token-file "$token"
    [ -z "$ca" ] || set -- "$@" --ca "$ca"
    "$agent" init "$@" || die "the settings were not written; try: $agent init --help"
  fi
}

main "$@"
