#!/bin/sh
# Installs LBEX on a host with systemd, from the folder that this script lies in; again to upgrade.
#
#   ./install.sh                    installs or upgrades; nothing is enabled or started, what runs is restarted under traffic
#   ./install.sh --remove           drains and removes; settings and state stay
#   ./install.sh --purge            removes settings, state and the user as well
#   ./install.sh --destdir FOLDER   lays the files out below FOLDER, and does nothing else
set -eu

here=$(cd "$(dirname "$0")" && pwd)
action=install
destdir=

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}
say() { printf 'install.sh: %s\n' "$*"; }
die() {
    printf 'install.sh: error: %s\n' "$*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --remove) action=remove ;;
    --purge) action=purge ;;
    --destdir)
        [ $# -gt 1 ] || usage
        destdir=$2
        shift
        ;;
    -h | --help) usage ;;
    *)
        printf 'install.sh: unknown argument %s\n' "$1" >&2
        usage
        ;;
    esac
    shift
done

runs_systemd() { [ -z "$destdir" ] && [ -d /run/systemd/system ]; }

# The paths of all files, below the root, and the program's.
files() {
    echo usr/bin/lbex
    (cd "$here/files" && find . -type f | sed 's,^\./,,' | sort)
}

# A file is replaced at once: what runs keeps the old one.
put() { # SOURCE TARGET
    mkdir -p "$(dirname "$2")"
    cp -p "$1" "$2.lbex-new"
    [ -n "$destdir" ] || chown 0:0 "$2.lbex-new"
    mv -f "$2.lbex-new" "$2"
}

install_files() {
    files | while read -r path; do
        source=$here/files/$path
        [ "$path" != usr/bin/lbex ] || source=$here/lbex
        target=$destdir/$path
        case $path in
        etc/*)
            if [ -e "$target" ] && ! cmp -s "$source" "$target"; then
                say "$target was changed and stays; the new one is $target.new"
                target=$target.new
            fi
            ;;
        esac
        put "$source" "$target"
    done
}

if [ -z "$destdir" ] && [ "$(id -u)" != 0 ]; then
    die "only root can do this; with --destdir FOLDER the files are laid out there instead"
fi
case $action in
install)
    if [ -z "$destdir" ] && ! command -v systemd-sysusers >/dev/null; then
        die "systemd-sysusers is missing, and nothing is installed: without systemd, run $here/lbex by another supervisor"
    fi
    install_files
    [ -z "$destdir" ] || exit 0
    systemd-sysusers lbex.conf
    systemd-tmpfiles --create lbex.conf
    if runs_systemd; then
        systemctl daemon-reload
        # LBEX alone: NGINX serves on, and the new LBEX takes it over.
        systemctl try-restart lbex.service || die "the new version did not start, see: journalctl -u lbex; NGINX serves on"
    fi
    say "installed; edit /etc/lbex/lbex.yaml, then: systemctl enable --now lbex"
    ;;
remove | purge)
    # LBEX first, so that it does not want back what is drained then.
    for unit in lbex.service lbex-nginx.service; do
        if runs_systemd && systemctl cat "$unit" >/dev/null 2>&1; then
            systemctl disable --quiet "$unit"
            systemctl stop "$unit"
        fi
    done
    files | while read -r path; do
        case $path in
        etc/*) [ "$action" = purge ] || continue ;;
        esac
        rm -f "$destdir/$path" "$destdir/$path.new"
        # Folders that only some hosts have.
        case $path in
        usr/share/*/*completions*/*) (cd "$destdir/" && rmdir -p "$(dirname "$path")" 2>/dev/null) || true ;;
        esac
    done
    rm -rf "$destdir/usr/share/doc/lbex"
    if [ "$action" = purge ]; then
        rm -rf "$destdir/var/lib/lbex" "$destdir/var/log/lbex" "$destdir/etc/lbex"
        if [ -z "$destdir" ]; then
            if getent passwd lbex >/dev/null; then userdel lbex; fi
            if getent group lbex >/dev/null; then groupdel lbex; fi
        fi
    fi
    if runs_systemd; then systemctl daemon-reload; fi
    say "removed"
    ;;
esac
