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
lbex=/usr/local/bin/lbex

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

# install_lbex URL CHECKSUM
install_lbex() {
    if [ "$(cat /var/lib/lbex-release 2>/dev/null)" = "$2" ] && [ -x "$lbex" ]; then
        return
    fi
    local work
    work=$(mktemp -d)
    patiently curl --fail --silent --show-error --location --output "$work/lbex.tar.gz" "$1"
    printf '%s  %s\n' "$2" "$work/lbex.tar.gz" | sha512sum --check --quiet - || {
        say "error: $1 is not the file with the checksum $2: it is not installed"
        return 1
    }
    tar --extract --gzip --no-same-owner --directory "$work" --file "$work/lbex.tar.gz"
    local binary
    binary=$(find "$work" -name lbex -type f -perm -u+x | head -n 1)
    [ -n "$binary" ] || {
        say "error: there is no program lbex in $1"
        return 1
    }
    install -m 755 "$binary" "$lbex.new"
    mv "$lbex.new" "$lbex"
    rm -rf "$work"
    printf '%s\n' "$2" >/var/lib/lbex-release
    say "installed $("$lbex" --version | head -n 1)"
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

write_settings() {
    getent passwd lbex >/dev/null || useradd --system --home-dir /var/lib/lbex --shell /usr/sbin/nologin lbex
    install -d -m 755 /etc/lbex
    attribute lbex-kubeconfig >/etc/lbex/kubeconfig
    attribute lbex-settings >/etc/lbex/lbex.yaml
}

# This machine is thrown away when LBEX is: so when it is told to end, it drains its NGINX (--stop-proxy-on-exit), and when it
# crashes, NGINX serves on until it is back (KillMode=process).
write_unit() {
    cat >/etc/systemd/system/lbex.service <<END
[Unit]
Description=LBEX, the external load balancer of a Kubernetes cluster
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart=$lbex --config /etc/lbex/lbex.yaml --stop-proxy-on-exit
User=lbex
StateDirectory=lbex
Environment=HOME=/var/lib/lbex
Restart=always
RestartSec=2
KillMode=process
TimeoutStartSec=5min
TimeoutStopSec=60
WatchdogSec=60
NotifyAccess=main
FileDescriptorStoreMax=8
LimitNOFILE=1048576
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
END
}

url=$(attribute lbex-url)
checksum=$(attribute lbex-sha512)
install_lbex "$url" "$checksum"
install_plugin
write_settings
write_unit
systemctl daemon-reload
systemctl enable --quiet lbex.service
systemctl start lbex.service
say "LBEX runs"
