# The cost of an `up` beside many tunnels, in the machine's own time. Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there
#
# The clock of this machine counts the instructions that its processor executes (`-icount` of QEMU), so neither the load of the host nor
# its speed changes the times. They compare kernels. The texts are those that the hook passes to iptables-restore, made on the host:
# to make a record of thousands of tunnels would take an emulated machine minutes.

# scale NAME: loads the rules of /lab/texts/NAME, and prints `took KERNEL MILLISECONDS`: the least processor time of some `up`s.
scale() {
    local texts=/lab/texts/$1 took least=0 _
    new_namespaces scale
    load "$texts/whole" || return 1
    tell_time 'the tunnels are loaded'
    for _ in 1 2 3 4 5; do
        took=$(processor_time "$texts/up") && load "$texts/down" || return 1
        ((least > 0 && least <= took)) || least=$took
    done
    # `#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-11-02)`
    printf 'took %s %s\n' "$(uname -v | sed 's/.*Debian \([0-9.]*\).*/\1/')" "$least"
}

load() { inside scale "iptables-$variant-restore" --noflush <"$1"; }

# processor_time TEXT: loads it, and prints how many milliseconds of processor time that took.
processor_time() {
    local TIMEFORMAT='%3U %3S' said
    said=$({ time load "$1" 2>"$state/refused"; } 2>&1) || { cat "$state/refused" && return 1; }
    awk '{ print int(($1 + $2) * 1000 + 0.5) }' <<<"$said"
}
