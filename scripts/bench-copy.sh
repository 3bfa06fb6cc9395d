#!/bin/bash
# Copies model trees with ours and with cp, rsync, rclone and Python's copytree,
# in turns, and prints each one's speed as a ratio to copytree: the median of
# the paired ratios, with the lowest and highest. Ours hashes what it copies.
#
#   scripts/bench-copy.sh [disk] [cached] [fuse] [fio] [read] [again] [many]     all if none is named
#
# Each round has another order, by chance. Before each copy as much memory is
# written and freed again as the copy will fill in the page cache: a virtual machine
# pays for pages that its host has taken back, and whichever copy came first would
# pay for all.
#
# disk and fuse compare copies from a local disk and from a share that is slow as
# a network is, cached from the page cache. read has fio read one file directly, as
# fast as the disk allows. fio has fio read the large tree and write as much beside it, as a
# copy does, and read from the slow share with as many streams. again kills a copy from the share
# in the middle, twice, and says how much was read of the share in all, and by a
# second job. many says how much memory a copy of 100,000 files takes.
#
# RUNS=9  SHARD_MB=256 (four of them)  SMALL=4000  ONE_MB=1024  MANY=100000
# LATENCIES="2ms 10ms"  LIMIT=100000000 (bytes a second of each stream)  DIR=/var/tmp
# PEERS="copytree cp rsync rclone rclone-tuned ours"  TREES="shards small one"
#
# Copies of small files are kept until the last one was made: ext4 without a
# journal passes over the inodes of files that were removed in the last half a
# minute, one by one, which took a millisecond for each new file.
#
# Wants: go, cp, python3, rsync, rclone, fio, and FUSE for a slow share. Peers that are not
# installed are left out, and said.
set -euo pipefail
cd "$(dirname "$0")/.."

RUNS=${RUNS:-9} SHARD_MB=${SHARD_MB:-256} SMALL=${SMALL:-4000} ONE_MB=${ONE_MB:-1024} MANY=${MANY:-100000}
LATENCIES=${LATENCIES:-2ms 10ms} LIMIT=${LIMIT:-100000000} DIR=${DIR:-/var/tmp}
PEERS=${PEERS:-copytree cp rsync rclone rclone-tuned ours} TREES=${TREES:-shards small one}
SOURCES=${*:-disk cached fuse fio read again many}

top=$(mktemp -d "$DIR/bench-copy.XXXXXX")
served=
finish() {
	[ -z "$served" ] || { umount "$top/mnt" || umount -l "$top/mnt"; wait "$served" || true; }
	rm -rf -- "$top"
}
trap finish EXIT

python=$(python3 -c 'import sys; print(sys.executable)' || true) # not a wrapper of it

(cd storage/testdata/nfsfuse && go build -o "$top/nfsfuse" . && go build -o "$top/pull" ./pull)

peers=
for peer in $PEERS; do
	case $peer in
	copytree) tool=python3 ;;
	ours) tool=go ;;
	*) tool=${peer%-tuned} ;;
	esac
	if command -v "$tool" >/dev/null; then peers+=" $peer"; else echo "left out: $peer is not installed" >&2; fi
done

share=$top/share
mkdir -p "$share" "$top/mnt"
# File names do not say safetensors: random bytes are none.
for tree in $TREES; do
	mkdir -p "$share/$tree"
	case $tree in
	shards)
		for i in 1 2 3 4; do head -c "${SHARD_MB}M" /dev/urandom >"$share/shards/model-$i.weights"; done
		for i in $(seq 20); do head -c 20000 /dev/urandom >"$share/shards/small-$i.json"; done
		;;
	small)
		for d in $(seq 0 39); do
			mkdir "$share/small/$d"
			for i in $(seq $((SMALL / 40))); do head -c 10000 /dev/urandom >"$share/small/$d/$i"; done
		done
		;;
	one) head -c "${ONE_MB}M" /dev/urandom >"$share/one/model.weights" ;;
	*) echo "unknown tree $tree" >&2 && exit 2 ;;
	esac
done
sync -f "$top"

# forget takes a tree out of the page cache, without touching anybody else's.
forget() { python3 - "$@" <<'PY'
import os, sys
for top in sys.argv[1:]:
    for d, _, names in os.walk(top):
        for n in names:
            f = os.open(os.path.join(d, n), os.O_RDONLY)
            os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(f)
PY
}

# remember reads a tree into the page cache.
remember() { find "$1" -type f -exec cat {} + >/dev/null; }

# touch_memory writes and frees memory: twice the size of a tree, for its pages that
# are read and written, and at most half of what is free.
touch_memory() { python3 - "$1" <<'PY'
import mmap, os, sys
size = sum(os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(sys.argv[1]) for n in names)
free = next(int(l.split()[1]) for l in open("/proc/meminfo") if l.startswith("MemAvailable")) * 1024
m = mmap.mmap(-1, max(min(2 * size, free // 2), 4096))
for at in range(0, len(m), 4096):
    m[at] = 1
PY
}

copy() { # peer from tree to
	case $1 in
	copytree) "$python" -c 'import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])' "$2/$3" "$4/$3" ;;
	cp) cp -r "$2/$3" "$4/$3" ;;
	rsync) rsync -a "$2/$3" "$4/" ;;
	rclone) rclone copy --config /dev/null -q "$2/$3" "$4/$3" ;;
	rclone-tuned) rclone copy --config /dev/null -q --transfers 8 --multi-thread-streams 8 "$2/$3" "$4/$3" ;;
	ours) "$top/pull" "$2" "$4" "$3" 2>/dev/null >>"$top/memory" ;;
	esac
}

measure() { # label, from, tree
	local run peer begun
	local to=$top/to keep
	if [ "$3" = small ]; then keep=yes; else keep=; fi
	: >"$top/times"
	for run in $(seq 0 "$RUNS"); do # the first one only warms up
		# shellcheck disable=SC2086 # a list of words
		for peer in $(shuf -e $peers); do
			if [ -n "$keep" ]; then to=$top/to/$run-$peer; else rm -rf "$top/to"; fi
			mkdir -p "$to" && sync -f "$top"
			# The cold source is that of the share behind a FUSE mount, too.
			touch_memory "$share/$3"
			if [ "$1" = cached ]; then remember "$share/$3"; else forget "$share/$3"; fi
			case $1 in disk | cached) ;; *) remount "$1" ;; esac
			begun=$(date +%s%N)
			copy "$peer" "$2" "$3" "$to"
			echo "$run $peer $(($(date +%s%N) - begun))" >>"$top/times"
			if [ "$run" = 0 ]; then diff -rq "$share/$3" "$to/$3" >&2; fi
		done
	done
	rm -rf "$top/to"
	python3 - "$1" "$3" "$top/times" <<'PY'
import statistics, sys
label, tree, name = sys.argv[1:]
runs = {}
for line in open(name):
    run, peer, took = line.split()
    if run != "0":
        runs.setdefault(peer, {})[run] = int(took) / 1e9
base = runs.get("copytree") or next(iter(runs.values()))
for peer, took in sorted(runs.items(), key=lambda r: statistics.median(r[1].values())):
    ratios = sorted(base[run] / t for run, t in took.items())
    print(f"{label:6} {tree:7} {peer:13} {statistics.median(took.values()):8.3f} s   x {statistics.median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
PY
}

remount() { # latency
	if [ -n "$served" ]; then umount "$top/mnt"; wait "$served" || true; fi
	: >"$top/served"
	"$top/nfsfuse" -latency "$1" -limit "$LIMIT" "$share" "$top/mnt" >"$top/served" 2>>"$top/log" &
	served=$!
	until grep -q mounted "$top/served"; do kill -0 "$served"; done
}

# fio_speed prints how many bytes a second fio gets with these options.
fio_speed() {
	fio --output-format=json --thread --group_reporting --bs=1M --ioengine=sync "$@" | python3 -c '
import json, sys
text = sys.stdin.read()
job = json.loads(text[text.index("{"):])["jobs"][0]
print(max(job[way]["io_bytes"] / max(job[way]["runtime"], 1) * 1000 for way in ("read", "write")))'
}

# limits compares a copy of the shards with fio, in turns: reading them and
# writing as much at the same time, or, from a slow share, reading alone.
limits() { # latency or disk
	local run begun theirs from=$share bytes
	bytes=$((SHARD_MB * 4 << 20))
	mkdir -p "$top/read" && fio_speed --name=read --rw=read --numjobs=4 --size="${SHARD_MB}M" --directory="$top/read" --create_only=1 >/dev/null
	: >"$top/times"
	for run in $(seq "$RUNS"); do
		rm -rf "$top/to" && mkdir "$top/to" && sync -f "$top" && forget "$share/shards"
		if [ "$1" = disk ]; then
			fio_speed --name=read --rw=read --numjobs=4 --size="${SHARD_MB}M" --directory="$top/read" >"$top/fio" &
			fio_speed --name=write --rw=write --numjobs=4 --size="${SHARD_MB}M" --directory="$top/to" >"$top/fio.write"
			wait $!
			cat "$top/fio.write" >>"$top/fio"
		else
			remount "$1" && from=$top/mnt
			fio_speed --name=read --rw=read --direct=1 --numjobs=16 --size=$((SHARD_MB / 16))M --offset_increment=$((SHARD_MB / 16))M \
				--filename="$from/shards/model-1.weights" >"$top/fio"
		fi
		theirs=$(python3 -c 'import sys; print(int(float(sys.argv[1]) / min(map(float, open(sys.argv[2]))) * 1e9))' "$bytes" "$top/fio")
		rm -rf "$top/to" && mkdir "$top/to" && sync -f "$top" && forget "$share/shards"
		if [ "$1" != disk ]; then remount "$1"; fi
		begun=$(date +%s%N)
		copy ours "$from" shards "$top/to"
		echo "$run fio $theirs" >>"$top/times"
		echo "$run ours $(($(date +%s%N) - begun))" >>"$top/times"
	done
	rm -rf "$top/to"
	python3 - "$1" "$top/times" <<'PY'
import statistics, sys
label, name = sys.argv[1:]
fio, ours = [], []
for line in open(name):
    _, who, took = line.split()
    (fio if who == "fio" else ours).append(int(took))
ratios = sorted(f / o for f, o in zip(fio, ours))
print(f"{label:5} shards  ours against fio     x {statistics.median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
PY
}

# read_limit compares a copy of one file with fio, which reads it directly and keeps
# nothing, in turns.
read_limit() {
	local run who begun
	: >"$top/times"
	for run in $(seq "$RUNS"); do
		for who in $(shuf -e fio ours); do
			rm -rf "$top/to" && mkdir "$top/to" && sync -f "$top"
			touch_memory "$share/one"
			forget "$share/one"
			if [ "$who" = fio ]; then
				fio_speed --name=read --rw=read --direct=1 --numjobs=4 --size="$((ONE_MB / 4))M" --offset_increment="$((ONE_MB / 4))M" \
					--filename="$share/one/model.weights" >"$top/fio"
				echo "fio $(python3 -c 'import sys; print(int(int(sys.argv[1]) / float(open(sys.argv[2]).read()) * 1e9))' $((ONE_MB << 20)) "$top/fio")" >>"$top/times"
			else
				begun=$(date +%s%N)
				copy ours "$share" one "$top/to"
				echo "ours $(($(date +%s%N) - begun))" >>"$top/times"
			fi
		done
	done
	rm -rf "$top/to"
	python3 - "$top/times" <<'PY'
import statistics, sys
took = {"fio": [], "ours": []}
for line in open(sys.argv[1]):
    who, ns = line.split()
    took[who].append(int(ns))
ratios = sorted(f / o for f, o in zip(took["fio"], took["ours"]))
print(f"read   one     ours against fio, direct     x {statistics.median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
PY
}

again() {
	(cd storage/testdata/nfsfuse && go test -count=1 -v -run 'TestKilledCopyReadsTheShareOnce|TestTwoProcessesReadTheShareOnce' .) | grep ' x the model'
	echo "a second job reads 0 bytes: held by the same test"
}

many() {
	mkdir -p "$top/big/many" "$top/to"
	python3 - "$top/big/many" "$MANY" <<'PY'
import os, sys
top, files = sys.argv[1], int(sys.argv[2])
for i in range(files):
    if i % 500 == 0:
        os.mkdir(f"{top}/{i // 500}")
    with open(f"{top}/{i // 500}/part-{i}", "wb") as f:
        f.write(b"x" * 300)
PY
	copy ours "$top/big" many "$top/to"
	echo "many  $MANY files, $(tail -1 "$top/memory")"
	rm -rf "$top/to" "$top/big"
}

head='source tree    program        median      against copytree: median (lowest to highest)'
for source in $SOURCES; do
	case $source in
	fio | read) command -v fio >/dev/null || { echo "left out: fio is not installed" >&2 && continue; } ;;
	esac
	case $source in
	disk | cached | fuse)
		echo "$head of $RUNS"
		for tree in $TREES; do
			if [ "$source" != fuse ]; then
				measure "$source" "$share" "$tree"
			else
				for latency in $LATENCIES; do measure "$latency" "$top/mnt" "$tree"; done
			fi
		done
		;;
	fio)
		for where in disk $LATENCIES; do limits "$where"; done
		;;
	read) read_limit ;;
	again) again ;;
	many) many ;;
	*) echo "unknown measurement $source" >&2 && exit 2 ;;
	esac
done
[ ! -f "$top/memory" ] || echo "ours, $(sort -t: -k2 -n "$top/memory" | tail -1)"
