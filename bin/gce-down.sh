#!/usr/bin/env bash
# Removes what gce-up.sh made, also where it was stopped half-way: see --help, and docs/install-gce.md.
#
# What is not there is passed over, so it can be run again. Ends with exit code 0 only when nothing is left.
set -euo pipefail

program=gce-down.sh
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=bin/gce-common.sh
. "$here/gce-common.sh"

arguments=("$@")
parse_options "$@"
set_names

how_to_go_on() {
    printf '%s: nothing after that was removed. When its cause is gone, the same command goes on from there:\n    %s\n' \
        "$program" "$(quoted "$0" "${arguments[@]}")"
}

# The list command for each kind.
groups=(compute instance-groups managed list "--regions=$region")
templates=(compute instance-templates list)
health_checks=(compute health-checks list --global)
# What the original's scripts made, under the same name.
old_health_checks=(compute http-health-checks list)
rules=(compute firewall-rules list)
subnets=(compute networks subnets list "--regions=$region")

# remove NAMES WHERE DELETE_COMMAND...: WHERE is an option of the command, or nothing.
remove() {
    local one names=$1 where=$2
    shift 2
    for one in $names; do
        change gcloud "$@" "$one" ${where:+"$where"} --quiet --project="$project"
    done
}

find_account() {
    account_found=$(look gcloud iam service-accounts list "--filter=$(exactly email "$account_email")" \
        '--format=value[separator=" "](email,description)' --project="$project")
}

# gce-up.sh has noted at the account which cluster it is for, and where the machines are.
read_account() {
    local description=${account_found#* } made_in
    [ -n "$account_found" ] || return 0
    if [[ $description =~ ^cluster=([-a-z0-9]+)\ location=([-a-z0-9]+)\ region=([-a-z0-9]+)$ ]]; then
        cluster_name=${BASH_REMATCH[1]} cluster_zone=${BASH_REMATCH[2]} made_in=${BASH_REMATCH[3]}
        [ "$made_in" = "$region" ] || die "$name is in region $made_in: give --region $made_in. Nothing was removed"
    elif [ -z "$cluster_name" ]; then
        die "the account $account_email does not say any more which cluster it is for: give --cluster-name and --cluster-zone." \
            "Nothing was removed"
    fi
    need_programs kubectl gke-gcloud-auth-plugin
}

# Takes what the machines were allowed in the cluster away.
forbid() {
    local found
    [ -n "$account_found" ] || return 0
    found=$(names_of "$(exactly name "$cluster_name")" container clusters list "--location=$cluster_zone")
    if [ -z "$found" ]; then
        say "cluster $cluster_name is gone, and with it what the machines were allowed there"
        return
    fi
    change env "KUBECONFIG=$work/operator" gcloud container clusters get-credentials "$cluster_name" \
        "--location=$cluster_zone" --project="$project"
    change kubectl "--kubeconfig=$work/operator" delete --ignore-not-found "clusterrolebinding/$role" "clusterrole/$role"
}

remove_account() {
    [ -z "$account_found" ] ||
        change gcloud iam service-accounts delete "$account_email" --quiet --project="$project"
}

# find NAME LIST_COMMAND...: sets `found`, and adds it to `seen`.
seen=()
find() {
    local filter
    filter=$(exactly name "$1")
    shift
    found=$(names_of "$filter" "$@")
    [ -z "$found" ] || seen+=("$found")
}

# Looks once more, and says what is there in spite of all.
check_that_nothing_is_left() {
    seen=()
    find "$group" "${groups[@]}"
    find "$template_names" "${templates[@]}"
    find "$health_check" "${health_checks[@]}"
    find "$health_check" "${old_health_checks[@]}"
    find "$rule_names" "${rules[@]}"
    find "$subnet" "${subnets[@]}"
    find_account
    [ -z "$account_found" ] || seen+=("$account_email")
    [ ${#seen[@]} = 0 ] || die "left, although each was removed without an error:" "${seen[@]}"
}

need_programs gcloud
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

find_account
read_account
find "$group" "${groups[@]}"
remove "$found" "--region=$region" compute instance-groups managed delete
forbid
find "$template_names" "${templates[@]}"
remove "$found" '' compute instance-templates delete
find "$health_check" "${health_checks[@]}"
remove "$found" --global compute health-checks delete
find "$health_check" "${old_health_checks[@]}"
remove "$found" '' compute http-health-checks delete
find "$rule_names" "${rules[@]}"
remove "$found" '' compute firewall-rules delete
find "$subnet" "${subnets[@]}"
remove "$found" "--region=$region" compute networks subnets delete
remove_account
if [ -z "$dry_run" ]; then
    check_that_nothing_is_left
    say "done. Nothing of $name is left"
fi
