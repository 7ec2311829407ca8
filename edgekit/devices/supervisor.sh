# What watches over commands on a device without Python: supervisor.py in POSIX sh, for Android's mksh and toybox.
#
#     sh supervisor.sh run ID TIMEOUT_S WAIT_S OUT ERR [DONE...] -- ARGV...
#                                                                     start once, then tell what it says, WAIT_S at most
#     sh supervisor.sh kill ID                                        end it, with all that it started
#     sh supervisor.sh size PATH                                      bytes of a file; 0 where there is none
#     sh supervisor.sh receive PATH OFFSET                            stdin into a file from byte OFFSET on; the rest goes
#     sh supervisor.sh send PATH FIRST COUNT                          that many bytes of a file; the first byte is 1
#
# A command runs in a session of its own that outlives the connection, ends at its deadline, and leaves how it ended.
# `run` with an ID that was started already goes on telling from byte OUT of its stdout and ERR of its stderr. It says
# "stdout BYTES" or "stderr BYTES" and then those bytes, as they come; last "running" or "ended EXIT_CODE TIMED_OUT
# CENTISECONDS STDOUT_BYTES STDERR_BYTES", or "problem ...". mksh counts in 32 bits: sizes of files are passed on as text,
# and a command may print 2 GiB.

RUNS=runs  # a folder for each command: stdout, stderr, pid, status

centiseconds() {
    read -r up rest < /proc/uptime
    echo "${up%.*}${up#*.}"
}

run() {
    id=$1 timeout=$2 most=$3 out=$4 err=$5
    shift 5
    while [ "$1" != "--" ]; do
        rm -rf "${RUNS:?}/$1"
        shift
    done
    shift
    if ! command -v setsid > /dev/null 2>&1; then
        echo "problem there is no setsid, under which commands run (Android has it; Debian: util-linux)"
        return
    fi
    mkdir -p "$RUNS"
    if mkdir "$RUNS/$id" 2> /dev/null; then
        sweep
        if ! command -v "$1" > /dev/null 2>&1; then
            rmdir "$RUNS/$id"
            echo "problem No such file or directory"
            return
        fi
        setsid sh "$0" watch "$RUNS/$id" "$timeout" "$@" < /dev/null > /dev/null 2>&1 &
    fi
    follow "$RUNS/$id" "$most" "$out" "$err"
}

# In the background: runs the command to its end or its deadline. Both it and its timer lead sessions of their own.
watch() {
    place=$1 timeout=$2
    shift 2
    begun=$(centiseconds)
    setsid "$@" < /dev/null > "$place/stdout" 2> "$place/stderr" &
    child=$!
    echo "$child" > "$place/pid"
    setsid sh "$0" alarm "$place" "$timeout" "$child" &
    alarm=$!
    wait "$child"
    code=$?
    kill -s KILL -- "-$alarm" 2> /dev/null
    kill -s KILL -- "-$child" 2> /dev/null
    timed_out=0
    [ -e "$place/late" ] && timed_out=1
    echo "$code $timed_out $(($(centiseconds) - begun))" > "$place/status.part"
    mv "$place/status.part" "$place/status"
}

alarm() {
    sleep "$2"
    : > "$1/late"
    kill -s KILL -- "-$3"
}

# Looks often at first, then five times a second.
follow() {
    place=$1 most=$(($(centiseconds) + $2 * 100)) out=$3 err=$4 pause=0.02 last=
    while [ -z "$last" ]; do
        if [ -e "$place/status" ]; then
            last="ended $(cat "$place/status")"
        elif [ "$(centiseconds)" -ge "$most" ]; then
            last=running
        else
            sleep "$pause"
            [ "$pause" = 0.02 ] && pause=0.05 || pause=0.2
        fi
        tell stdout "$out"
        out=$now
        tell stderr "$err"
        err=$now
    done
    [ "$last" = running ] || last="$last $out $err"
    echo "$last"
}

# What is new in one of its streams since byte $2; `now` is how far it is told.
tell() {
    now=$(size "$place/$1")
    if [ "$now" != "$2" ]; then
        echo "$1 $((now - $2))"
        tail -c "+$(($2 + 1))" "$place/$1" | head -c "$((now - $2))"
    fi
}

end() {
    if [ -e "$RUNS/$1/pid" ] && [ ! -e "$RUNS/$1/status" ]; then
        kill -s KILL -- "-$(cat "$RUNS/$1/pid")" 2> /dev/null
    fi
    echo "killed $1"
}

# What clients that never came back have left: runs, and files that never got their names.
sweep() {
    find "$RUNS" -name status -mmin +60 2> /dev/null | while read -r status; do
        rm -rf "${status%/*}"
    done
    find . -name '*.part' -type f -mmin +60 -exec rm -f '{}' + 2> /dev/null
}

size() {
    if [ -e "$1" ]; then
        set -- $(wc -c < "$1")
        echo "$1"
    else
        echo 0
    fi
}

receive() {
    truncate -s "$2" "$1" && cat >> "$1" && echo received
}

send() {
    [ -r "$1" ] || return 1
    tail -c "+$2" "$1" | head -c "$3"
}

verb=$1
shift
case $verb in
    run | watch | alarm | size | receive | send) "$verb" "$@" ;;
    kill) end "$@" ;;
    *) exit 64 ;;
esac
