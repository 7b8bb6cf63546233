# What bash completes for pluto-updown.
#
# Goes to /usr/local/share/bash-completion/completions/pluto-updown. Needs nothing of the package bash-completion but to be loaded.

_pluto_updown() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' skip=no i
    local common='--config --state-dir --programs --root --help'
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ $skip == yes ]]; then
            skip=no
            continue
        fi
        case ${COMP_WORDS[i]} in
        --config | --state-dir | --programs | --root | --wait | -w) skip=yes ;;
        -*) ;;
        *) command=${COMP_WORDS[i]} && break ;;
        esac
    done
    case $before in
    --config)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --state-dir | --programs | --root)
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    --wait | -w) return ;;
    --expect) command=unblock ;;
    esac
    if [[ $word == -* ]]; then
        case $command in
        '') common+=' --wait --no-routes --dry-run --version' ;;
        check) common+=' --wait' ;;
        explain) common+=' --packet --diagram --svg --verbose' ;;
        flush) common+=' --wait --dry-run --force --verbose --yes' ;;
        start) common+=' --wait --dry-run --boot --force --verbose' ;;
        unblock) common+=' --wait --dry-run --all --verbose' ;;
        stop | prune) common+=' --wait --dry-run --verbose' ;;
        restore) common+=' --wait --no-routes --dry-run --verbose' ;;
        replay) common+=' --wait --no-routes --dry-run' ;;
        status) common+=' --json --names --watch --verbose --users --expect --prometheus --nagios' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$common" -- "$word")
        return
    fi
    case $command in
    '') mapfile -t COMPREPLY < <(compgen -W 'start stop unblock check flush explain prune restore status replay' -- "$word") ;;
    # Names are what peers and administrators made them: they are matched as they are, and nothing in them is expanded.
    explain | unblock | status)
        while IFS= read -r i; do
            [[ $i != "$word"* ]] || COMPREPLY+=("$(printf %q "$i")")
        done < <("${COMP_WORDS[0]}" status --names 2>/dev/null)
        ;;
    replay) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    esac
}

complete -F _pluto_updown pluto-updown
