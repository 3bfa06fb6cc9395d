#!/bin/sh
# Builds a release twice, in two clones of this commit with two build caches, and
# compares the bytes.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
commit=$(git rev-parse HEAD)
for n in 1 2; do
  git clone -q . "$work/clone-$n"
  git -C "$work/clone-$n" checkout -q "$commit"
  (cd "$work/clone-$n" && GOCACHE="$work/cache-$n" go run ./scripts/dist -o "$work/dist-$n" >/dev/null)
done
diff -r "$work/dist-1" "$work/dist-2"
cat "$work/dist-1/SHA256SUMS"
echo 'both builds are the same'
