#!/usr/bin/env bash
# What a machine that gce-up.sh made runs as root at each boot: installs LBEX and the plugin with which it gets its credentials for
# the cluster, and starts it. Its settings are in the machine's metadata.
#
# It fails where the release is not the one whose checksum gce-up.sh noted. A machine that does not serve is replaced after some
# minutes; what is written here is in its serial port's output, and in `journalctl -u google-startup-scripts`.
set -euo pipefail

metadata=http://169.254.169.254/computeMetadata/v1/instance/attributes
packages=https://packages.cloud.google.com/apt
plugin=google-cloud-cli-gke-gcloud-auth-plugin
key=/usr/share/keyrings/lbex-google-cloud.asc
# Has the checksum of the release that is installed.
installed=/etc/lbex-release

say() { printf 'gce-boot.sh: %s\n' "$*"; }

# attribute NAME: what gce-up.sh gave this machine.
attribute() { curl --fail --silent --show-error --retry 10 --retry-connrefused --header 'Metadata-Flavor: Google' "$metadata/$1"; }

# Tries a command that needs the network a few times.
patiently() {
    local try
    for try in 1 2 3 4 5; do
        "$@" && return
        say "failed ($try of 5): $*"
        sleep "${LBEX_BOOT_PAUSE:-10}"
    done
    return 1
}

# install_lbex URL CHECKSUM: as on any host, by the release's own install.sh.
install_lbex() {
    local work
    if [ "$(cat "$installed" 2>/dev/null)" = "$2" ]; then
        return
    fi
    work=$(mktemp -d)
    patiently curl --fail --silent --show-error --location --output "$work/lbex.tar.gz" "$1"
    printf '%s  %s\n' "$2" "$work/lbex.tar.gz" | sha512sum --check --quiet - || {
        say "error: $1 is not the file with the checksum $2: it is not installed"
        return 1
    }
    tar --extract --gzip --no-same-owner --strip-components 1 --directory "$work" --file "$work/lbex.tar.gz"
    "$work/install.sh"
    rm -rf "$work"
    printf '%s\n' "$2" >"$installed"
}

# From Google's own packages, whose signatures apt checks.
install_plugin() {
    if command -v gke-gcloud-auth-plugin >/dev/null; then
        return
    fi
    patiently curl --fail --silent --show-error --location --output "$key" "$packages/doc/apt-key.gpg"
    printf 'deb [signed-by=%s] %s cloud-sdk main\n' "$key" "$packages" >/etc/apt/sources.list.d/lbex-google-cloud.list
    export DEBIAN_FRONTEND=noninteractive
    patiently apt-get -qq -o DPkg::Lock::Timeout=120 update
    patiently apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$plugin"
}

# There is nothing secret in them: the plugin asks the machine's metadata for a token each time.
write_settings() {
    install -d -m 755 /etc/lbex
    attribute lbex-kubeconfig >/etc/lbex/kubeconfig
    attribute lbex-settings >/etc/lbex/lbex.yaml
    chmod 644 /etc/lbex/kubeconfig /etc/lbex/lbex.yaml
}

url=$(attribute lbex-url)
checksum=$(attribute lbex-sha512)
install_lbex "$url" "$checksum"
install_plugin
write_settings
systemctl enable --quiet lbex.service
systemctl start lbex.service
say "LBEX runs"
