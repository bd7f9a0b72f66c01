# Runs one program for a test, and kills it with its process group when the test lets go of this
# shell's standard input: by dropping it, or by ending in whatever way, kill -9 included.
#
# Arguments: the file that gets the program's output, then the program with its arguments.
# Standard output: the program's process id; at its end "exit STATUS" (128 + signal number if killed).

exec 3<&0
log=$1
shift
# The shell starts what runs in the background with SIGINT and SIGQUIT ignored: undone here.
setsid env --default-signal=INT,QUIT "$@" </dev/null >>"$log" 2>&1 3<&- &
program=$!
echo "$program"

# The group exists only once setsid has run, so the process is killed by its own id too.
(
    read -r _ <&3
    kill -s KILL -- "-$program" "$program"
) >/dev/null 2>&1 &
watcher=$!

wait "$program"
status=$?
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
echo "exit $status"

# What the program left in its group goes with the test too. Its process id can be somebody else's by
# now, but not while a group of that number exists.
read -r _ <&3
[ -e "/proc/$program" ] || kill -s KILL -- "-$program" 2>/dev/null
exit 0
