# Reads a scenario of tests/daemons/scenarios, on the host. Sourced, not run. What the words mean is in tests/daemons/README.md.
# shellcheck shell=bash disable=SC2154 # what common.bash sets

# What a step can be: regular expressions, of which one matches the whole of it.
gateway='(west|east|north)' word='[^ ]+' number='[0-9]+'
shapes=(
    "(up|begin|end|down|route|unroute|delete|reauth) $word( at $gateway)?" "rekey (child|ike) $word( at $gateway)?" "both up $word"
    "traffic ($word -> $word|end|end but [0-9]|stop)"
    "(pass|no-pass|clear no-pass) $word -> $word (ping|esp|(tcp|udp|icmp) $number)"
    "$gateway (holds $number( $number)?|is clean|says .+|refused nothing|hook was killed|sent nothing in clear)"
    "(kill|shutdown|start|flush|cut|watch) $gateway" "kill-hook $gateway (before|after)" "move $gateway $word"
    "firewall (start|stop) $gateway" "unblock $gateway( $word)?" "settings on $gateway \($number\)"
    confine "by hand $word $word" "in $word .+" "everywhere .+" "wait [0-9.]+"
)
is_step() { [[ $1 =~ ^($(IFS='|' && echo "${shapes[*]}"))$ ]]; }

# read_scenario FILE DAEMON: prints what it says for this daemon, as bash for the machine. Writing settings is a step: its last word says
# which. A line that means nothing ends the script.
read_scenario() {
    local file=$1 daemon=$2 line n=0 tag words mine at=-1 block='' behind_nat=''
    local -a connection=() on=() options=() settings=() steps=() numbers=() gateways=(west east) places=()
    local -A example=()
    wrong() { fail "${file##*/}, line $n: $1"; }
    # One word a line, for what is one step.
    step() {
        is_step "$1" || wrong "no such step: $1"
        steps+=("$1") numbers+=("$n")
    }
    while IFS= read -r line || [[ $line ]]; do
        n=$((n + 1))
        line=${line%%$'\r'}
        [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
        # [libreswan-4.10] at the head of a line: for that daemon only; [libreswan], for all of its versions.
        if [[ $line =~ ^([[:space:]]*)\[((libreswan|strongswan)[a-z0-9. -]*)\][[:space:]]*(.*)$ ]]; then
            tag=${BASH_REMATCH[2]} line=${BASH_REMATCH[1]}${BASH_REMATCH[4]} mine=no
            for words in $tag; do [[ $words == "$daemon" || $words == "${daemon%%-*}" ]] && mine=yes; done
            [[ $mine == yes ]] || continue
        fi
        if [[ $block == settings && $line == [[:space:]]* ]]; then
            settings[${#settings[@]} - 1]+=${line#"${line%%[![:space:]]*}"}$'\n'
            continue
        fi
        if [[ $line =~ ^[[:space:]]+([^=]+)=(.*)$ ]]; then
            ((at >= 0)) || wrong 'an option without a connection'
            options[at]+=${options[at]:+$'\n'}${BASH_REMATCH[1]}=${BASH_REMATCH[2]}
            continue
        fi
        read -r -a words <<<"$line"
        block=${words[0]}
        case $block in
        daemons | variants | calls | package) ;; # the runner's
        gateways) gateways=("${words[@]:1}") ;;
        nat) behind_nat=west ;;
        host) places+=("${words[*]:1}") ;;
        connection)
            connection+=("${words[1]}")
            at=$((${#connection[@]} - 1))
            on[at]="${words[*]:3}" options[at]=''
            ;;
        example)
            [[ -d $root/contrib/examples/pairs/${words[1]:-} && ${words[2]:-} == on && ${words[3]:-} ]] ||
                wrong 'expected "example FOLDER on GATEWAY", with a folder of contrib/examples/pairs'
            example[${words[3]}]=${words[1]}
            ;;
        settings)
            step "${words[*]} (${#settings[@]})"
            settings+=('')
            ;;
        *) step "${words[*]}" ;;
        esac
    done <"$file"
    declare -p connection on options settings steps numbers gateways places behind_nat example | sed 's/^declare /declare -g /'
}
