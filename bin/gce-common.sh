# shellcheck shell=bash
# What gce-up.sh and gce-down.sh share: options, names, messages, and how they call gcloud. Sourced by both; not a program.
#
# Whoever sources this file sets `program`, to its own name.
: "${program:?}"

# The release that machines install when nothing else is asked for.
lbex_release=0.1.0
releases=https://github.com/lbex/lbex/releases/download

say() { printf '%s: %s\n' "$program" "$*"; }
warn() { printf '%s: %s\n' "$program" "$*" >&2; }
die() {
    warn "error: $*"
    exit 1
}

usage() {
    cat <<END
Usage:
  gce-up.sh --name NAME --project PROJECT --cluster-name CLUSTER --cluster-network NETWORK [OPTIONS]
  gce-down.sh --name NAME --project PROJECT [OPTIONS]

gce-up.sh makes a regional group of machines that run LBEX for a GKE cluster, or brings one that it made up to date.
gce-down.sh removes all of it. Both can be run again at any time, and take the same options:

  -a, --machine-type TYPE        of each machine. Default: $default_machine_type
  -c, --cidr CIDR                addresses of the machines, in NETWORK: enough for all of them and the four that Google Cloud
                                 keeps, and none of the cluster's. Default: $default_cidr
  -g, --ingress-cidr CIDR,...    who may send to the machines. Default: $default_ingress_cidr
  -h, --help                     show this
  -i, --project PROJECT          Google Cloud project. Required
  -m, --cluster-name CLUSTER     the GKE cluster to balance. Required for gce-up.sh
  -n, --name NAME                beginning of the names of all that is made. Required
  -p, --health-port PORT         where LBEX says whether it is healthy. Default: $default_health_port
  -r, --region REGION            of the machines. Default: $default_region
  -s, --num-autoscale N          machines at the most; there are two at least. Default: $default_num_autoscale
  -t, --cluster-network NETWORK  the cluster's network, one with custom subnets. Required for gce-up.sh
  -z, --cluster-zone ZONE        the cluster's zone, or the region of a regional cluster. Default: $default_cluster_zone
      --dry-run                  look at what there is and print the commands that would be run
      --lbex-version VERSION     the LBEX release to install. Default: $lbex_release
      --lbex-url URL             where its linux_amd64.tar.gz is. Default: that of the release
      --lbex-sha512 CHECKSUM     the file's SHA-512, which each machine checks. Default: what linux_amd64.sha512 beside it says

For example:
  gce-up.sh --name mylbex --project k8s-work --cidr 10.128.0.0/28 --region us-central1 --cluster-name my-k8s-cluster --num-autoscale 10 --cluster-zone us-central1-a --cluster-network my-cluster-network --health-port 1337
  gce-down.sh --name mylbex --region us-central1 --project k8s-work
END
}

# Wrong usage: nothing has been looked at or made.
misused() {
    warn "error: $*"
    usage >&2
    exit 2
}

default_machine_type=n1-standard-1
default_cidr=10.150.0.0/28
default_ingress_cidr=0.0.0.0/0
default_health_port=7331
default_region=us-central1
default_num_autoscale=10
default_cluster_zone=us-central1-a

# Prints the variable that an option sets. Fails where there is no such option.
variable_of() {
    case $1 in
    -a | --machine-type) echo machine_type ;;
    -c | --cidr) echo cidr ;;
    -g | --ingress-cidr) echo ingress_cidr ;;
    -i | --project) echo project ;;
    -m | --cluster-name) echo cluster_name ;;
    -n | --name) echo name ;;
    -p | --health-port) echo health_port ;;
    -r | --region) echo region ;;
    -s | --num-autoscale) echo num_autoscale ;;
    -t | --cluster-network) echo cluster_network ;;
    -z | --cluster-zone) echo cluster_zone ;;
    --lbex-version) echo lbex_version ;;
    --lbex-url) echo lbex_url ;;
    --lbex-sha512) echo lbex_sha512 ;;
    *) return 1 ;;
    esac
}

# Sets the variables of all options from the command line; required ones are empty where they are not given.
parse_options() {
    name='' project='' cluster_name='' cluster_network='' dry_run='' lbex_url='' lbex_sha512=''
    machine_type=$default_machine_type cidr=$default_cidr ingress_cidr=$default_ingress_cidr health_port=$default_health_port
    region=$default_region num_autoscale=$default_num_autoscale cluster_zone=$default_cluster_zone lbex_version=$lbex_release
    local option variable
    while [ $# -gt 0 ]; do
        option=$1
        shift
        case $option in
        -h | --help)
            usage
            exit 0
            ;;
        --dry-run)
            dry_run=yes
            continue
            ;;
        --*=*)
            set -- "${option#*=}" "$@"
            option=${option%%=*}
            ;;
        esac
        variable=$(variable_of "$option") || misused "unknown option $option"
        [ $# -gt 0 ] || misused "$option needs a value"
        printf -v "$variable" %s "$1"
        shift
    done
    check_options
}

# check OPTION VALUE PATTERN WHAT: the whole value must match the regular expression.
check() {
    [[ $2 =~ ^($3)$ ]] || misused "$1 '$2' is not $4"
}

# check_number OPTION VALUE LEAST MOST
check_number() {
    # Ten digits at the most: what is longer is no number to bash.
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,9})$ ]] || (($2 < $3 || $2 > $4)); then
        misused "$1 '$2' is not a number from $3 to $4"
    fi
}

# check_cidr OPTION VALUE: IPv4, or IPv6 as far as Google Cloud does not look closer.
check_cidr() {
    local a b c d bits
    if [[ $2 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})/([0-9]{1,2})$ ]]; then
        a=$((10#${BASH_REMATCH[1]})) b=$((10#${BASH_REMATCH[2]})) c=$((10#${BASH_REMATCH[3]})) d=$((10#${BASH_REMATCH[4]}))
        bits=$((10#${BASH_REMATCH[5]}))
        ((a < 256 && b < 256 && c < 256 && d < 256 && bits <= 32)) || misused "$1 '$2' is not a CIDR"
        ((bits == 0 ? (a + b + c + d) == 0 : (((a << 24 | b << 16 | c << 8 | d) & ((1 << (32 - bits)) - 1)) == 0))) ||
            misused "$1 '$2' has bits set beyond its prefix"
    else
        [[ $1 == --ingress-cidr && $2 =~ ^[0-9a-f:]*:[0-9a-f:]*/[0-9]{1,3}$ ]] || misused "$1 '$2' is not a CIDR"
    fi
}

check_options() {
    local label='[a-z]([-a-z0-9]*[a-z0-9])?' range ranges room
    [ -n "$name" ] || misused "--name is required"
    [ -n "$project" ] || misused "--project is required"
    check --name "$name" "$label" "a name: small letters, digits and dashes, a letter first and no dash last"
    [ ${#name} -le 40 ] || misused "--name '$name' is longer than 40 characters"
    check --project "$project" '([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]' "a project id"
    check --region "$region" '[a-z]+-[a-z]+[0-9]+' "a region, such as us-central1"
    check --cluster-zone "$cluster_zone" '[a-z]+-[a-z]+[0-9]+(-[a-z])?' "a zone or region, such as us-central1-a"
    check --machine-type "$machine_type" '[a-z][-a-z0-9]*[a-z0-9]' "a machine type, such as n1-standard-1"
    [ -z "$cluster_name" ] || check --cluster-name "$cluster_name" "$label" "the name of a cluster"
    [ -z "$cluster_network" ] || check --cluster-network "$cluster_network" "$label" "the name of a network"
    check_number --health-port "$health_port" 1 65535
    check_number --num-autoscale "$num_autoscale" 2 1000
    check_cidr --cidr "$cidr"
    IFS=, read -r -a ranges <<<"$ingress_cidr,"
    [ ${#ranges[@]} -gt 0 ] || misused "--ingress-cidr '' is not a CIDR"
    for range in "${ranges[@]}"; do
        check_cidr --ingress-cidr "$range"
    done
    room=$(((1 << (32 - ${cidr#*/})) - 4))
    [ "$room" -ge "$num_autoscale" ] ||
        misused "--cidr '$cidr' has room for $((room > 0 ? room : 0)) machines, and --num-autoscale asks for $num_autoscale"
    check --lbex-version "$lbex_version" '[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?' "a version, such as $lbex_release"
    [ -z "$lbex_sha512" ] || check --lbex-sha512 "$lbex_sha512" '[0-9a-f]{128}' "128 hexadecimal digits"
    lbex_url=${lbex_url:-$releases/v$lbex_version/linux_amd64.tar.gz}
    check --lbex-url "$lbex_url" 'https://[-A-Za-z0-9._~:/?@%+]+' "an address that begins with https:// and needs no quotes"
}

# The names of all that is made.
# shellcheck disable=SC2034 # used by those who source this file
set_names() {
    subnet=$name-subnetwork
    rule_clients=$name-all-traffic
    rule_cluster=$name-cluster-traffic
    rule_probes=$name-health-check
    health_check=$name-healthcheck
    group=$name-instance-group
    template=$name-instance
    # Those of all runs, and the original's: regular expressions.
    template_names="$template(-[0-9a-f]{10})?"
    rule_names="$rule_clients|$rule_probes|$rule_cluster"
    role=lbex-$name
    # Of a service account's name there may be 30 characters.
    account=lbex-$name
    if [ ${#account} -gt 30 ]; then
        account=${account:0:19}-$(printf '%s' "$name" | sha256sum | cut -c 1-10)
    fi
    local domain=$project
    # Projects of a domain: example.com:work has accounts at work.example.com.
    [[ $project != *:* ]] || domain=${project#*:}.${project%%:*}
    account_email=$account@$domain.iam.gserviceaccount.com
}

need_programs() {
    local missing=''
    local wanted
    for wanted in "$@"; do
        command -v "$wanted" >/dev/null || missing="$missing $wanted"
    done
    [ -z "$missing" ] || die "missing on this machine:$missing. Nothing was made or removed"
}

# A command as it can be pasted into a shell.
quoted() {
    local word text=''
    for word in "$@"; do
        if [[ $word =~ ^(--[a-z-]+=)(.*[^-A-Za-z0-9_./:=,@%+].*)$ ]]; then
            word=${BASH_REMATCH[1]}${BASH_REMATCH[2]@Q}
        elif ! [[ $word =~ ^[-A-Za-z0-9_./:=,@%+]+$ ]]; then
            word=${word@Q}
        fi
        text+="$word "
    done
    printf '%s' "${text% }"
}

# change COMMAND...: runs what makes, changes or removes something. The first that fails ends the program.
change() {
    if [ -n "$dry_run" ]; then
        say "would run: $(quoted "$@")"
        return
    fi
    say "running: $(quoted "$@")"
    "$@" || stop $? "$@"
}

# look COMMAND...: runs what only reads, and prints what it says. Its failure ends the program: 'not found' and 'not allowed' must
# not be mistaken for each other, so nothing is asked for that may be absent.
look() {
    "$@" </dev/null || stop $? "$@"
}

# stop CODE COMMAND...
stop() {
    local code=$1
    shift
    warn "error: this failed with exit code $code, its own message is above: $(quoted "$@")"
    how_to_go_on >&2
    exit 1
}

# Prints a filter for gcloud: what of a field is exactly that. (`name=that` would find whatever has the word in its name, such as
# `another-that`.)
exactly() { printf '%s~"^(%s)$"' "$1" "${2//./[.]}"; }

# names_of FILTER COMMAND...: the names of what a list command of gcloud finds.
names_of() {
    local filter=$1
    shift
    look gcloud "$@" "--filter=$filter" '--format=value(name)' --project="$project"
}
