#!/usr/bin/env bash
# Runs a command beside a site of four boxes on this machine, which ends with it: with-site.sh bin/holdfast COMMAND...
# In the command's words ALL becomes the etcd endpoints of all boxes, FIRST that of the first; it may call $SITE_HOOK with
# "down I" and "up I", "kill I", "start I", "stop I" and "cont I".
set -euo pipefail
binary=$(readlink -f "$1")
shift
dir=$(mktemp -d)
trap '[ $site = 0 ] || kill -INT $site 2>/dev/null || true; wait $site 2>/dev/null || true; rm -rf "$dir"' EXIT
site=0
for attempt in 1 2 3; do # a port may be in use
	port=$((20000 + RANDOM % 900 * 10))
	"$binary" dev --boxes 4 --dir "$dir/site" --ready-file "$dir/ready" --console-port $port --peer-port $((port + 4)) \
		--client-port $((port + 1000)) >"$dir/log" 2>&1 &
	site=$!
	for _ in $(seq 300); do
		[ -e "$dir/ready" ] && break 2
		kill -0 $site 2>/dev/null || break
		sleep 0.1
	done
	cat "$dir/log" >&2
	[ $attempt = 3 ] && exit 1
	rm -rf "$dir/site"
done
first=127.0.0.1:$((port + 1000))
all=$first,127.0.0.1:$((port + 1010)),127.0.0.1:$((port + 1020)),127.0.0.1:$((port + 1030))
cat >"$dir/hook" <<-END
	#!/usr/bin/env bash
	# dev starts a box again that was killed
	pid() { pgrep -f "run --config $dir/site/box-\$1/holdfast.toml" | head -1; }
	case \$1 in
	down | kill) kill -KILL "\$(pid "\$2")" ;;
	up | start) for _ in \$(seq 100); do [ -n "\$(pid "\$2")" ] && exit 0; sleep 0.1; done; exit 1 ;;
	stop) kill -STOP "\$(pid "\$2")" ;;
	cont) kill -CONT "\$(pid "\$2")" ;;
	*) exit 0 ;; # what this site cannot do
	esac
END
chmod +x "$dir/hook"
export SITE_HOOK=$dir/hook
words=()
for w in "$@"; do
	w=${w//ALL/$all}
	w=${w//FIRST/$first}
	words+=("${w//HOOK/$SITE_HOOK}")
done
"${words[@]}"
