#compdef pluto-updown
# What zsh completes for pluto-updown.
#
# Goes to /usr/local/share/zsh/site-functions/_pluto-updown

_pluto_updown() {
    local context state state_descr line
    typeset -A opt_args
    local -a common=(
        '--config[settings file]:file:_files'
        '--state-dir[state directory]:directory:_directories'
        '*--programs[look for programs in this folder only]:folder:_directories'
        '--root[take the system'\''s files from below this folder]:folder:_directories'
        '(-)'{-h,--help}'[show help]'
    )
    local -a wait=('(-w --wait)'{-w,--wait}'[maximum time to wait for the xtables lock]:seconds:')
    local -a rehearse=('(-n --dry-run)'{-n,--dry-run}'[show what would be done, and do nothing]')
    local -a verbose=('(-v --verbose)'{-v,--verbose}'[print every rule]')
    local -a routes=('--no-routes[leave routes, addresses and interfaces alone]')
    local -a commands=(
        'start:apply the settings'
        'stop:remove the gateway rules'
        'unblock:allow unencrypted packets of a blocked pair'
        'check:find problems before they occur'
        'flush:remove every rule and chain of pluto-updown'
        'explain:show what a tunnel allows, or the verdict on a packet'
        'prune:remove the rules of tunnels that are no longer up'
        'restore:reinstall rules that a firewall reload removed'
        'status:show tunnels, counters and missing rules'
        'replay:run every call in a captures file'
    )
    _arguments -C $common $wait $routes $rehearse '(-)'{-V,--version}'[show the version]' '1: :->command' '*:: :->rest'
    case $state in
    command) _describe command commands ;;
    rest)
        case $words[1] in
        explain) _arguments $common '(--packet --diagram)--svg[draw the diagram as SVG]' '(--packet --svg)--diagram[draw the path of packets in text]' '(--svg --diagram)--packet[show the verdict on a packet]:from:' '(-v --verbose)'{-v,--verbose}'[also show chains and other paths]' '1:connection:_pluto_updown_names' '*:word:' ;;
        unblock) _arguments $common $wait $rehearse $verbose '(1)--all[every blocked pair]' '(--all)1:connection:_pluto_updown_names' ;;
        flush) _arguments $common $wait $rehearse $verbose '--force[also delete rules of yours that jump to a PLUTO chain]' '(-y --yes)'{-y,--yes}'[do not ask, though tunnels are up]' ;;
        start) _arguments $common $wait $rehearse '--boot[if the file has an error, apply the last valid settings]' '--force[remove restrictions without a settings file]' $verbose ;;
        status)
            _arguments $common $verbose '(-j --json --names)'{-j,--json}'[print JSON]' '(-j --json -w --watch)--names[print only names]' \
                '(--names -w)--watch=-[show it again every few seconds]::seconds:' '(--names --watch)-w[show it again every few seconds]' \
                '(-u --users)'{-u,--users}'[who is connected]' '*--expect[a problem if this is not up]:connection:_pluto_updown_names' \
                '--prometheus[for the textfile collector]' '--nagios[as a Nagios plugin]' '*:connection:_pluto_updown_names'
            ;;
        replay) _arguments $common $wait $routes $rehearse '1:file:_files' ;;
        check) _arguments $common $wait ;;
        restore) _arguments $common $wait $routes $rehearse $verbose ;;
        *) _arguments $common $wait $rehearse $verbose ;;
        esac
        ;;
    esac
}

# Names are what peers and administrators made them; compadd quotes them.
_pluto_updown_names() {
    local -a names=(${(f)"$(_call_program names pluto-updown status --names 2>/dev/null)"})
    compadd -a names
}

_pluto_updown "$@"
