#!/usr/bin/env bash
# Writes what top and peers --watch show in terminals of two sizes, beside a small mesh with traffic, into the folder of
# this file. Needs tmux, and peermesh in the PATH; the ports 4601 and 4602 must be free.
set -euo pipefail
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cd "$work"
export HOME=$work PEERMESH_NO_MDNS=true

peermesh pull jobs --name worker --listen 127.0.0.1:4601 --work 600us >/dev/null 2>&1 &
peermesh rep upper --name upper --listen 127.0.0.1:4602 --echo >/dev/null 2>&1 &
peermesh push jobs --name sender --dir state --peer 127.0.0.1:4601 --peer 127.0.0.1:4602 \
	--count 1000000 --size 100 --rate 2000 >/dev/null 2>&1 &
trap 'tmux -L peermesh kill-server; kill $(jobs -p); wait; rm -rf "$work"' EXIT

sleep 5 # until there is traffic to look at
for size in 80x24 120x40; do
	tmux -L peermesh new-session -d -s "top-$size" -x "${size%x*}" -y "${size#*x}" 'peermesh top --dir state'
	tmux -L peermesh new-session -d -s "peers-$size" -x "${size%x*}" -y "${size#*x}" 'peermesh peers --watch --dir state'
done
sleep 7 # some pictures long: the first one has no rates yet
for size in 80x24 120x40; do
	for verb in top peers; do
		tmux -L peermesh capture-pane -p -t "$verb-$size" >"$out/$verb-$size.txt"
	done
done
