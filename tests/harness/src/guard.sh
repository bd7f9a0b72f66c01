# Waits until the test lets go of this shell's standard input, in whatever way, then removes the
# test's folder. Before that, each NGINX or HAProxy that runs in the folder, or has a file in it open, is
# killed: LBEX leaves its proxy running on purpose. What the test mounted in the folder goes with it.
#
# Arguments: the folder; "nginx" if there may be such an NGINX.

folder=$1

users() {
    find /proc/[0-9]*/exe /proc/[0-9]*/cwd /proc/[0-9]*/fd -maxdepth 1 \
        \( -lname "$folder" -o -lname "$folder/*" \) 2>/dev/null | cut -d/ -f3 | sort -un
}

# Twice with nothing found: a master may just be starting another worker.
kill_nginx() {
    quiet=0
    rounds=0
    while [ "$quiet" -lt 2 ] && [ "$rounds" -lt 100 ]; do
        [ "$rounds" = 0 ] || sleep 0.02
        rounds=$((rounds + 1))
        quiet=$((quiet + 1))
        for pid in $(users); do
            case $(readlink "/proc/$pid/exe") in
            *nginx* | *haproxy*)
                kill -s KILL "$pid" 2>/dev/null
                quiet=0
                ;;
            esac
        done
    done
}

read -r _
[ "$2" != nginx ] || kill_nginx
while read -r _ _ _ _ point _; do
    case $point in "$folder"/*) umount -l "$point" ;; esac
done </proc/self/mountinfo
# A program that is being killed at this moment may still write: then once more.
rm -rf -- "$folder" 2>/dev/null || { sleep 0.2 && rm -rf -- "$folder"; }
