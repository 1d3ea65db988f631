#!/usr/bin/env bash
# step.sh LOG TITLE COMMAND...: runs the command with its output in LOG. Prints the title, every nine seconds how long it
# has taken and the last line of the log, and the end of the log where the command fails, whose status it returns.
set -uo pipefail
log=$1 title=$2
shift 2
began=$SECONDS
echo "== $title"
"$@" >>"$log" 2>&1 &
command=$!
trap 'kill "$command" 2>/dev/null' INT TERM
{
    while sleep 9 >/dev/null 2>&1; do  # or it would keep a pipe open after the end
        echo "   $(( SECONDS - began )) s  $(tail -n 1 "$log" | cut -c 1-100)"
    done
} &
ticker=$!
wait "$command"
status=$?
{ kill "$ticker" && wait "$ticker"; } 2>/dev/null
if (( status )); then
    tail -n 20 "$log" >&2
fi
echo "   $(( SECONDS - began )) s"
exit "$status"
