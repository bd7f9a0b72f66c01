#!/usr/bin/env bash
# Makes a group of machines on Google Cloud that run LBEX for a GKE cluster, or brings one that it made up to date: see --help, and
# docs/install-gce.md.
#
# What there is already is kept and changed where it has to be, so that a run that was stopped goes on when it is started again.
set -euo pipefail

program=gce-up.sh
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=bin/gce-common.sh
. "$here/gce-common.sh"

# Where Google's health checks come from; no --ingress-cidr shuts them out.
probes=35.191.0.0/16,130.211.0.0/22
# Seconds from a machine's creation until its health counts: it boots and installs LBEX meanwhile.
initial_delay=300
# Seconds that the group may take until all its machines are as they should be.
settle=1800
# More machines than wanted while all are being replaced: Google Cloud wants one per zone at the least.
surge=3

arguments=("$@")
parse_options "$@"
[ -n "$cluster_name" ] || misused "--cluster-name is required"
[ -n "$cluster_network" ] || misused "--cluster-network is required"
set_names

how_to_go_on() {
    [ -z "$dry_run" ] || return 0
    printf '%s: nothing after that was done. When its cause is gone, the same command goes on from there:\n    %s\n' \
        "$program" "$(quoted "$0" "${arguments[@]}")"
    printf '%s: to remove all that was made instead:\n    %s\n' "$program" \
        "$(quoted "$here/gce-down.sh" --name "$name" --region "$region" --project "$project")"
}

# --- What is read before anything is made -----------------------------------------------------------

find_checksum() {
    local text
    [ -z "$lbex_sha512" ] || return 0
    text=$(look curl --fail --silent --show-error --location --retry 3 "${lbex_url%.tar.gz}.sha512")
    lbex_sha512=${text%% *}
    [[ $lbex_sha512 =~ ^[0-9a-f]{128}$ ]] ||
        die "${lbex_url%.tar.gz}.sha512 does not begin with a SHA-512 checksum. Nothing was made"
}

find_cluster() {
    local found
    found=$(names_of "$(exactly name "$cluster_name")" container clusters list "--location=$cluster_zone")
    [ -n "$found" ] || die "there is no cluster $cluster_name in $cluster_zone of project $project. Nothing was made"
    found=$(look gcloud container clusters describe "$cluster_name" "--location=$cluster_zone" \
        '--format=value[separator=" "](endpoint,masterAuth.clusterCaCertificate)' --project="$project")
    read -r cluster_endpoint cluster_ca <<<"$found"
    [ -n "$cluster_ca" ] ||
        die "cluster $cluster_name has no endpoint and certificate yet. Nothing was made"
}

# Machines answer at the port that they were made with: a health check at another would have all of them replaced at once.
check_health_port() {
    local found
    found=$(names_of "$(exactly name "$group")" compute instance-groups managed list "--regions=$region")
    [ -n "$found" ] || return 0
    found=$(look gcloud compute health-checks list --global "--filter=$(exactly name "$health_check")" \
        '--format=value(httpHealthCheck.port)' --project="$project")
    [ -z "$found" ] || [ "$found" = "$health_port" ] ||
        die "the machines of $name have the health port $found, which cannot be changed while they serve: give --health-port" \
            "$found, or make a group of another name. Nothing was made"
}

# --- What the machines get --------------------------------------------------------------------------

write_kubeconfig() {
    cat <<END
apiVersion: v1
kind: Config
current-context: gke
clusters:
- name: gke
  cluster:
    server: https://$cluster_endpoint
    certificate-authority-data: $cluster_ca
users:
- name: machine
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: gke-gcloud-auth-plugin
      args: [--use_application_default_credentials]
      interactiveMode: Never
      provideClusterInfo: true
contexts:
- name: gke
  context: {cluster: gke, user: machine}
END
}

write_settings() {
    cat <<END
kubeconfig: /etc/lbex/kubeconfig
health-port: $health_port
END
}

# What the machines' account may do in the cluster: what examples/kubernetes/rbac.yaml allows, and nothing in the project.
write_role() {
    cat <<END
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: $role
rules:
- apiGroups: [""]
  resources: [services, nodes, endpoints]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: $role
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: $role
subjects:
- apiGroup: rbac.authorization.k8s.io
  kind: User
  name: $account_email
END
}

# --- Steps ------------------------------------------------------------------------------------------

# The account's description is where gce-down.sh finds cluster and region.
make_account() {
    local found
    local description="cluster=$cluster_name location=$cluster_zone region=$region"
    found=$(look gcloud iam service-accounts list "--filter=$(exactly email "$account_email")" '--format=value(description)' \
        --project="$project")
    if [ "$found" = "$description" ]; then
        return
    elif [ -n "$found" ]; then
        die "there is $name already, for $found, which cannot be changed. Choose another name, or remove it first: $(quoted \
            "$here/gce-down.sh" --name "$name" --region "${found##*region=}" --project "$project")"
    fi
    change gcloud iam service-accounts create "$account" "--display-name=LBEX $name" "--description=$description" \
        --project="$project"
}

make_subnet() {
    local found wanted="$cidr $cluster_network"
    found=$(look gcloud compute networks subnets list "--filter=$(exactly name "$subnet")" "--regions=$region" \
        '--format=value[separator=" "](ipCidrRange,network.basename())' --project="$project")
    if [ -z "$found" ]; then
        change gcloud compute networks subnets create "$subnet" "--network=$cluster_network" "--range=$cidr" \
            "--region=$region" --enable-private-ip-google-access "--description=Machines of LBEX $name" --project="$project"
    elif [ "$found" != "$wanted" ]; then
        die "the subnet $subnet has the range and network '$found', not '$wanted', and cannot be changed." \
            "Give what it has, or remove all with gce-down.sh first"
    fi
}

# make_rule NAME ALLOWED SOURCES [OPTION...]: options are for a new rule only.
make_rule() {
    local rule=$1 allowed=$2 sources=$3 found
    shift 3
    found=$(names_of "$(exactly name "$rule")" compute firewall-rules list)
    if [ -z "$found" ]; then
        change gcloud compute firewall-rules create "$rule" "--network=$cluster_network" "--allow=$allowed" \
            "--source-ranges=$sources" "$@" --project="$project"
    else
        change gcloud compute firewall-rules update "$rule" "--allow=$allowed" "--source-ranges=$sources" --project="$project"
    fi
}

make_rules() {
    make_rule "$rule_clients" tcp,udp,icmp "$ingress_cidr" "--target-tags=$name" \
        "--description=From clients to LBEX $name"
    make_rule "$rule_probes" "tcp:$health_port" "$probes" "--target-tags=$name" \
        "--description=From Google's health checks to LBEX $name"
    make_rule "$rule_cluster" tcp,udp,icmp "$cidr" "--description=From LBEX $name to the nodes and Pods of $cluster_name"
}

make_health_check() {
    local found verb=update
    found=$(names_of "$(exactly name "$health_check")" compute health-checks list --global)
    [ -n "$found" ] || verb=create
    change gcloud compute health-checks "$verb" http "$health_check" --global "--port=$health_port" --request-path=/ \
        --check-interval=5s --timeout=5s --healthy-threshold=2 --unhealthy-threshold=2 --project="$project"
}

# Lets the machines' account read in the cluster what LBEX needs.
permit() {
    write_role >"$work/role.yaml"
    change env "KUBECONFIG=$work/operator" gcloud container clusters get-credentials "$cluster_name" \
        "--location=$cluster_zone" --project="$project"
    change kubectl "--kubeconfig=$work/operator" apply --filename="$work/role.yaml"
}

# A template cannot be changed: its name has a checksum of what is in it.
make_template() {
    local found options
    write_kubeconfig >"$work/kubeconfig"
    write_settings >"$work/lbex.yaml"
    options=(
        "--machine-type=$machine_type"
        --image-project=ubuntu-os-cloud --image-family=ubuntu-2404-lts-amd64
        "--region=$region" "--subnet=$subnet" "--tags=$name"
        "--service-account=$account_email" "--scopes=cloud-platform,userinfo-email"
        --shielded-secure-boot --shielded-vtpm --shielded-integrity-monitoring
        "--metadata=lbex-url=$lbex_url,lbex-sha512=$lbex_sha512"
    )
    template=$template-$(
        {
            printf '%s\n' "${options[@]}"
            cat "$here/gce-boot.sh" "$work/kubeconfig" "$work/lbex.yaml"
        } | sha256sum | cut -c 1-10
    )
    found=$(names_of "$(exactly name "$template")" compute instance-templates list)
    if [ -z "$found" ]; then
        change gcloud compute instance-templates create "$template" "${options[@]}" \
            "--metadata-from-file=startup-script=$here/gce-boot.sh,lbex-kubeconfig=$work/kubeconfig,lbex-settings=$work/lbex.yaml" \
            "--description=A machine of LBEX $name" --project="$project"
    fi
}

make_group() {
    local found update=''
    found=$(names_of "$(exactly name "$group")" compute instance-groups managed list "--regions=$region")
    if [ -z "$found" ]; then
        change gcloud compute instance-groups managed create "$group" "--region=$region" "--template=$template" --size=2 \
            "--base-instance-name=$name" "--health-check=$health_check" "--initial-delay=$initial_delay" \
            "--description=LBEX $name" --project="$project"
    else
        change gcloud compute instance-groups managed update "$group" "--region=$region" "--health-check=$health_check" \
            "--initial-delay=$initial_delay" --project="$project"
        found=$(look gcloud compute instance-groups managed describe "$group" "--region=$region" \
            '--format=value(instanceTemplate.basename())' --project="$project")
        [ "$found" = "$template" ] || update=yes
    fi
    # Its size is the autoscaler's from here on.
    change gcloud compute instance-groups managed set-autoscaling "$group" "--region=$region" --min-num-replicas=2 \
        "--max-num-replicas=$num_autoscale" --scale-based-on-cpu --target-cpu-utilization=0.7 \
        "--cool-down-period=$initial_delay" --project="$project"
    if [ -n "$update" ]; then
        change gcloud compute instance-groups managed rolling-action start-update "$group" "--region=$region" \
            "--version=template=$template" --type=proactive "--max-surge=$surge" --max-unavailable=0 --project="$project"
    fi
}

wait_for_group() {
    local until
    say "waiting until every machine is healthy (minutes; $((settle / 60)) at the most)"
    for until in --version-target-reached --stable; do
        change gcloud compute instance-groups managed wait-until "$group" "--region=$region" "$until" "--timeout=$settle" \
            --project="$project"
    done
}

# Templates of earlier runs, which no machine has any more.
remove_old_templates() {
    local found old
    found=$(names_of "$(exactly name "$template_names")" compute instance-templates list)
    for old in $found; do
        [ "$old" = "$template" ] ||
            change gcloud compute instance-templates delete "$old" --quiet --project="$project"
    done
}

need_programs gcloud kubectl gke-gcloud-auth-plugin curl sha256sum
# No question waits for an answer that nobody gives.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

find_checksum
find_cluster
check_health_port
make_account
make_subnet
make_rules
make_health_check
permit
make_template
make_group
wait_for_group
remove_old_templates
if [ -z "$dry_run" ]; then
    say "done. The machines and their addresses:"
    look gcloud compute instances list "--filter=tags.items=($name)" \
        '--format=table(name,zone.basename(),networkInterfaces[0].accessConfigs[0].natIP,status)' --project="$project"
fi
