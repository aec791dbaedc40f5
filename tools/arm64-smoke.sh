#!/usr/bin/env bash
# The arm64 binary under qemu-user: its version, and a site of one box that orders a message.
# arm64-smoke.sh bin/holdfast-linux-arm64
set -euo pipefail
bin=$1
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || { echo 'arm64-smoke: qemu-user is missing: run "make deps"' >&2; exit 1; }
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
free() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])' 2>/dev/null || shuf -i 20000-40000 -n 1; }

"$qemu" "$bin" version
c=$(free); k=$(free); p=$(free)
"$qemu" "$bin" dev --boxes 1 --dir "$dir/site" --console-port "$c" --client-port "$k" --peer-port "$p" --ready-file "$dir/ready" >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 300); do
	[ ! -e "$dir/ready" ] || break
	kill -0 "$pid" 2>/dev/null || { cat "$dir/log"; exit 1; }
	sleep 0.2
done
[ -e "$dir/ready" ] || { cat "$dir/log"; echo 'arm64-smoke: the site did not serve within 60 s' >&2; exit 1; }
"$qemu" "$bin" kv put --addr "http://127.0.0.1:$c" greeting hello
got=$("$qemu" "$bin" kv get --addr "http://127.0.0.1:$c" greeting)
[ "$got" = hello ] || { echo "arm64-smoke: got \"$got\", want hello" >&2; exit 1; }
curl -fsS "http://127.0.0.1:$c/readyz" >/dev/null
echo "arm64-smoke: a one-box site under qemu ordered a message"
