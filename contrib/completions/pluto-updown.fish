# What fish completes for pluto-updown.
#
# Goes to /usr/local/share/fish/vendor_completions.d/pluto-updown.fish

set -l commands start stop unblock check flush explain prune restore status replay

complete -c pluto-updown -f

complete -c pluto-updown -l config -r -F -d 'Settings'
complete -c pluto-updown -l state-dir -x -a '(__fish_complete_directories)' -d 'The record'
complete -c pluto-updown -l programs -x -a '(__fish_complete_directories)' -d 'Look for programs there only'
complete -c pluto-updown -l root -x -a '(__fish_complete_directories)' -d 'Take the system\'s files from below'
complete -c pluto-updown -l wait -x -d 'Wait so long for the xtables lock'
complete -c pluto-updown -l no-routes -d 'Leave routes, addresses and devices to others'
complete -c pluto-updown -l dry-run -d 'Show what would be done, and do nothing'
complete -c pluto-updown -s h -l help -d 'Show help'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -s V -l version -d 'Show the version'

complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a start -d 'Make all as it is set'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a stop -d 'Take the gateway\'s own rules out'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a unblock -d 'Let packets in clear pass again'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a check -d 'Find what would go wrong'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a flush -d 'Remove everything of ours'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a explain -d 'Tell what may flow through a tunnel'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a prune -d 'Forget tunnels that are gone'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a restore -d 'Put back what a reload took away'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a status -d 'Show the tunnels'
complete -c pluto-updown -n "not __fish_seen_subcommand_from $commands" -a replay -d 'Run every call in a captures file'

complete -c pluto-updown -n '__fish_seen_subcommand_from explain' -l packet -x -d 'Follow a packet'
complete -c pluto-updown -n '__fish_seen_subcommand_from explain' -l svg -d 'Draw the picture'
complete -c pluto-updown -n '__fish_seen_subcommand_from explain unblock' -a '(pluto-updown status --names 2>/dev/null)'
complete -c pluto-updown -n '__fish_seen_subcommand_from flush' -l force -d 'Also rules of yours that lead to a chain of ours'
complete -c pluto-updown -n '__fish_seen_subcommand_from start' -l boot -d 'With a broken file, install the settings that were good last'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l json -d 'In JSON'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l names -d 'Only names'
complete -c pluto-updown -n '__fish_seen_subcommand_from status' -l watch -d 'Again and again'
complete -c pluto-updown -n '__fish_seen_subcommand_from replay' -F
