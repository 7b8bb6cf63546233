# What fish completes for pluto-updown.
#
# Goes to /usr/local/share/fish/vendor_completions.d/pluto-updown.fish

set -l commands start stop unblock check flush explain prune restore status replay

complete -c pluto-updown -f

complete -c pluto-updown -l config -r -F -d 'Settings file'
complete -c pluto-updown -l state-dir -x -a '(__fish_complete_directories)' -d 'State directory'
complete -c pluto-updown -l programs -x -a '(__fish_complete_directories)' -d 'Look for programs there only'
complete -c pluto-updown -l root -x -a '(__fish_complete_directories)' -d 'Take the system\'s files from below'
complete -c pluto-updown -n 'not __fish_seen_subcommand_from status explain' -s w -l wait -x -d 'Maximum time to wait for the xtables lock'
complete -c pluto-updown -n 'not __fish_seen_subcommand_from status explain check start stop unblock flush prune' -l no-routes -d 'Leave routes, addresses and interfaces alone'
complete -c pluto-updown -n 'not __fish_seen_subcommand_from status explain check' -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c pluto-updown -s h -l help -d 'Show help'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -s V -l version -d 'Show the version'

complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a start -d 'Apply the settings'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a stop -d 'Remove the gateway rules'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a unblock -d 'Allow unencrypted packets of a blocked pair'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a check -d 'Find problems before they occur'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a flush -d 'Remove every rule and chain of pluto-updown'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a explain -d 'Show what a tunnel allows, or the verdict on a packet'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a prune -d 'Remove the rules of tunnels that are no longer up'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a restore -d 'Reinstall rules that a firewall reload removed'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a status -d 'Show tunnels, counters and missing rules'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a replay -d 'Run every call in a captures file'

complete -c pluto-updown -n '__fish_seen_subcommand_from explain' -l packet -x -d 'Show the verdict on a packet'
complete -c pluto-updown -n '__fish_seen_subcommand_from explain' -l diagram -d 'Draw the path of packets in text'
complete -c pluto-updown -n '__fish_seen_subcommand_from explain' -l svg -d 'Draw it as SVG'
complete -c pluto-updown -n '__fish_seen_subcommand_from explain' -s v -l verbose -d 'Also show chains and other paths'
complete -c pluto-updown -n '__fish_seen_subcommand_from explain unblock status' -a '(pluto-updown status --names 2>/dev/null)'
complete -c pluto-updown -n '__fish_seen_subcommand_from flush' -l force -d 'Also delete rules of yours that jump to a PLUTO chain'
complete -c pluto-updown -n '__fish_seen_subcommand_from flush' -s y -l yes -d 'Do not ask, though tunnels are up'
complete -c pluto-updown -n '__fish_seen_subcommand_from unblock' -l all -d 'Every blocked pair'
complete -c pluto-updown -n '__fish_seen_subcommand_from start' -l force -d 'Remove restrictions without a settings file'
complete -c pluto-updown -n '__fish_seen_subcommand_from start stop unblock flush prune restore status' -s v -l verbose -d 'Print every rule'
complete -c pluto-updown -n '__fish_seen_subcommand_from start' -l boot -d 'If the file has an error, apply the last valid settings'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -s j -l json -d 'Print JSON'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -s u -l users -d 'Who is connected'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l expect -x -a '(pluto-updown status --names 2>/dev/null)' -d 'A problem if this is not up'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l prometheus -d 'For the textfile collector'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l nagios -d 'As a Nagios plugin'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l names -d 'Print only names'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -s w -l watch -d 'Show it again every few seconds'
complete -c pluto-updown -n '__fish_seen_subcommand_from replay' -F
