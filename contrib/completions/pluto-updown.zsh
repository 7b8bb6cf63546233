#compdef pluto-updown
# What zsh completes for pluto-updown.
#
# Goes to /usr/local/share/zsh/site-functions/_pluto-updown

_pluto_updown() {
    local context state state_descr line
    typeset -A opt_args
    local -a common=(
        '--config[settings]:file:_files'
        '--state-dir[the record]:folder:_directories'
        '*--programs[look for programs in this folder only]:folder:_directories'
        '--root[take the system'\''s files from below this folder]:folder:_directories'
        '--wait[wait so long for the xtables lock]:seconds:'
        '--no-routes[leave routes, addresses and devices to others]'
        '--dry-run[show what would be done, and do nothing]'
        '(-)'{-h,--help}'[show help]'
    )
    local -a commands=(
        'start:make all as it is set'
        'stop:take the gateway'\''s own rules out'
        'unblock:let packets in clear pass again'
        'check:find what would go wrong'
        'flush:remove everything of ours'
        'explain:tell what may flow through a tunnel'
        'prune:forget tunnels that are gone'
        'restore:put back what a reload took away'
        'status:show the tunnels'
        'replay:run every call in a captures file'
    )
    _arguments -C $common '(-)'{-V,--version}'[show the version]' '1: :->command' '*:: :->rest'
    case $state in
    command) _describe command commands ;;
    rest)
        case $words[1] in
        explain) _arguments $common '(--packet)--svg[draw the picture]' '(--svg)--packet[follow a packet]:from:' '1:connection:_pluto_updown_names' ;;
        unblock) _arguments $common '1:connection:_pluto_updown_names' ;;
        flush) _arguments $common '--force[also rules of yours that lead to a chain of ours]' ;;
        start) _arguments $common '--boot[with a broken file, install the settings that were good last]' ;;
        status) _arguments $common '(--names)--json[in JSON]' '(--json --watch)--names[only names]' '(--names)--watch=-[again and again]::seconds:' ;;
        replay) _arguments $common '1:file:_files' ;;
        *) _arguments $common ;;
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
