# shellcheck shell=bash
# What the stand-ins of these tests share. They are not the programs whose names they have: they write down how they were called, and
# answer from files in the folder STANDIN.
#
#   calls          each call on a line of its own, quoted, in order; calls that change something after a `+`
#   fail           'NUMBER before' or 'NUMBER after': the change of this number (from 1) fails, without or with its effect;
#                  'NUMBER look': the question of this number fails
#   sticky         'KIND/X': its removal has no effect
#   state/KIND/X   what there is: a line `--flag=value` for each flag that it was made with

: "${STANDIN:?the folder of the stand-ins is not given}"
me=${0##*/}

refuse() {
    printf '%s, a stand-in for tests: %s\n' "$me" "$2" >&2
    exit "$1"
}

# note SIGN ARGUMENT...: writes a call down, and says in `number` which of its kind it is.
note() {
    local sign=$1 line word text=$1
    shift
    for word in "$me" "$@"; do
        if [[ $word =~ ^(--[a-z-]+=)(.*[^-A-Za-z0-9_./:=,@%+].*)$ ]]; then
            word=${BASH_REMATCH[1]}${BASH_REMATCH[2]@Q}
        elif ! [[ $word =~ ^[-A-Za-z0-9_./:=,@%+]+$ ]]; then
            word=${word@Q}
        fi
        text+=" $word"
    done
    printf '%s\n' "$text" >>"$STANDIN/calls"
    number=0
    while read -r line _; do
        [ "$line" != "$sign" ] || number=$((number + 1))
    done <"$STANDIN/calls"
}

fails() {
    local which='' when=''
    [ ! -e "$STANDIN/fail" ] || read -r which when <"$STANDIN/fail"
    [ "$number $1" = "$which $when" ]
}

# Asks something: answers follow on standard output.
question() {
    note - "$@"
    ! fails look || refuse 1 "told to fail here: not allowed"
}

# Changes something: `effect` does it.
change() {
    note + "$@"
    ! fails before || refuse 1 "told to fail here, before anything was done"
    effect
    ! fails after || refuse 1 "told to fail here, after it was done"
}
