#!/usr/bin/env bash
# step.sh LOG TITLE COMMAND...: runs the command with its output in LOG. Prints the title, every nine seconds (STEP_SECONDS)
# how long it has taken and the last line of the log, and the end of the log where the command fails, whose status it returns.
set -uo pipefail
log=$1 title=$2
shift 2

# The last line of the log: of pip's list of packages their number, of another one the beginning.
state() {
    local line
    line=$(tail -n 1 "$log")
    if [[ $line == "Installing collected packages: "* ]]; then
        line=${line//[^,]/}
        echo "installing $(( ${#line} + 1 )) packages"
    else
        echo "${line:0:70}"
    fi
}

began=$SECONDS
echo "== $title"
"$@" >>"$log" 2>&1 &
command=$!
trap 'kill "$command" 2>/dev/null' INT TERM
{
    while sleep "${STEP_SECONDS:-9}" >/dev/null 2>&1; do  # or it would keep a pipe open after the end
        echo "   $(( SECONDS - began )) s  $(state)"
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
