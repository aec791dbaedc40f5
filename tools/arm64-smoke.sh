#!/usr/bin/env bash
# The arm64 binary under qemu-user: its version, and a site of one box that orders a message. The host's binary
# founds the site, because qemu-user alone cannot start further arm64 processes.
# arm64-smoke.sh bin/holdfast-linux-arm64 bin/holdfast
set -euo pipefail
arm=$1 host=$2
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || { echo 'arm64-smoke: qemu-user is missing: run "make deps"' >&2; exit 1; }
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
fail() { cat "$dir/log" >&2; echo "arm64-smoke: $*" >&2; exit 1; }
port=$((15000 + RANDOM % 15000))

"$qemu" "$arm" version

"$host" dev --boxes 1 --dir "$dir/site" --console-port "$port" --client-port $((port + 1)) --peer-port $((port + 10)) \
	--ready-file "$dir/ready" >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 300); do [ -e "$dir/ready" ] && break; kill -0 "$pid" 2>/dev/null || fail 'the site was not founded'; sleep 0.1; done
"$host" kv put --addr "http://127.0.0.1:$port" from host
kill -INT "$pid"; wait "$pid" || true

"$qemu" "$arm" run --config "$dir/site/box-0/holdfast.toml" >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 600); do
	curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null 2>&1 && break
	kill -0 "$pid" 2>/dev/null || fail 'the arm64 box stopped'
	sleep 0.1
done
"$qemu" "$arm" kv put --addr "http://127.0.0.1:$port" greeting hello
got=$("$qemu" "$arm" kv get --addr "http://127.0.0.1:$port" greeting)
[ "$got" = hello ] || fail "got \"$got\", want hello"
got=$("$qemu" "$arm" kv get --addr "http://127.0.0.1:$port" from)
[ "$got" = host ] || fail "got \"$got\" from the site that the other architecture founded, want host"
kill "$pid"; wait "$pid" || fail 'the arm64 box did not stop as it should'
pid=
echo 'arm64-smoke: a one-box site under qemu ordered a message'
