# Runs a stage of a scenario in the machine. usage: lab.bash SCENARIO VARIANT STAGE
#
#   left 10.1.0.5 --- inside - gateway - outside --- right 192.0.2.2
#                                      - ipsec5 ---- far 10.2.0.9
#
# IPv6 alike, with fd00:1::5, fd00:9::2 and fd00:2::9. ipsec5 is in place of a tunnel's interface: no ESP is needed then, which not every
# kernel has, and packets meet every firewall as those of an XFRM interface do. The tunnel `office` is known by its reqid, and has IPsec
# policies in the kernel; no packets of it are sent. The hook is called as libreswan and strongSwan call it.
# shellcheck shell=bash
set -u

scenario=$1 variant=$2 stage=$3
hook=/usr/local/libexec/pluto-updown
contrib=/lab/contrib

# Facts.

ok() { echo "ok $scenario $variant: $1"; }

failed() {
    echo "FAILED $scenario $variant: $1"
    sed 's/^/    /'
}

# check FACT COMMAND...: whether the command succeeds; its output is printed only if it does not.
check() {
    local fact=$1 text
    shift
    if text=$("$@" 2>&1); then ok "$fact"; else failed "$fact" <<<"$text"; fi
}

# refuted FACT COMMAND...: whether it fails.
refuted() {
    local fact=$1 text
    shift
    if text=$("$@" 2>&1); then failed "$fact" <<<"it succeeded: $*"$'\n'"$text"; else ok "$fact"; fi
}

# must COMMAND...: a step without which nothing that follows means anything.
must() {
    local text
    text=$("$@" 2>&1) || {
        failed "$*" <<<"$text"
        exit 1
    }
}

# soon COMMAND...: waits until it succeeds, a minute at most. The last time it may be heard.
soon() {
    local _
    for _ in {1..600}; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    "$@"
}

# The network.

network() {
    local end
    ip link set lo up
    for end in left right far; do ip netns add "$end"; done
    wire inside left 10.1.0.1/24 10.1.0.5/24 fd00:1::1/64 fd00:1::5/64
    wire outside right 192.0.2.1/24 192.0.2.2/24 fd00:9::1/64 fd00:9::2/64
    wire ipsec5 far 10.2.0.1/24 10.2.0.9/24 fd00:2::1/64 fd00:2::9/64
    ip route add default via 192.0.2.2
    ip route add default via fd00:9::2
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    policies 10.1.0.0/24 10.3.0.0/24 192.0.2.1 192.0.2.2 1
    policies fd00:1::/64 fd00:3::/64 fd00:9::1 fd00:9::2 2
}

# wire DEVICE END OWN FAR OWN6 FAR6: an interface of the gateway's, and the machine at its other end.
wire() {
    ip link add "$1" type veth peer name eth0 netns "$2"
    ip link set "$1" up
    ip -n "$2" link set lo up
    ip -n "$2" link set eth0 up
    ip address add "$3" dev "$1"
    ip address add "$5" dev "$1" nodad
    ip -n "$2" address add "$4" dev eth0
    ip -n "$2" address add "$6" dev eth0 nodad
    ip -n "$2" route add default via "${3%/*}"
    ip -n "$2" route add default via "${5%/*}"
}

# policies MY_NETWORK PEER_NETWORK ME PEER REQID: what the kernel has while a tunnel is up.
policies() {
    local direction
    ip xfrm policy add src "$1" dst "$2" dir out tmpl src "$3" dst "$4" proto esp reqid "$5" mode tunnel
    for direction in in fwd; do
        ip xfrm policy add src "$2" dst "$1" dir "$direction" tmpl src "$4" dst "$3" proto esp reqid "$5" mode tunnel
    done
}

# tunnel VERB: the calls, strongSwan's for the tunnel that is matched by its reqid and libreswan's for the one with an interface, for both
# families.
tunnel() {
    strongswan "$1-client" office 1 192.0.2.1 192.0.2.2 10.1.0.0/24 10.3.0.0/24 &&
        strongswan "$1-client-v6" office-v6 2 fd00:9::1 fd00:9::2 fd00:1::/64 fd00:3::/64 &&
        libreswan "$1-client" branch 16389 192.0.2.1 192.0.2.2 10.1.0.0/24 10.2.0.0/24 ipv4 &&
        libreswan "$1-client-v6" branch-v6 16393 fd00:9::1 fd00:9::2 fd00:1::/64 fd00:2::/64 ipv6
}

# Of both: VERB CONNECTION REQID ME PEER MY_NETWORK PEER_NETWORK.
strongswan() {
    env -i PLUTO_VERB="$1" PLUTO_CONNECTION="$2" PLUTO_REQID="$3" PLUTO_ME="$4" PLUTO_PEER="$5" PLUTO_MY_CLIENT="$6" PLUTO_PEER_CLIENT="$7" \
        PLUTO_UNIQUEID=1 PLUTO_PROTO=esp PLUTO_PEER_ID=branch.example PLUTO_MY_PROTOCOL=0 PLUTO_PEER_PROTOCOL=0 PLUTO_MY_PORT=0 \
        PLUTO_PEER_PORT=0 "$hook"
}

# An ordinary interface stands in for an XFRM interface, which not every kernel has. The hook takes no ordinary one for a tunnel's, so that
# it has another name during an `up`.
libreswan() {
    local status=0
    [[ $1 != up-* ]] || ip link set ipsec5 name away
    libreswan_calls "$@" || status=$?
    [[ $1 != up-* ]] || ip link set away name ipsec5
    return "$status"
}

libreswan_calls() {
    env -i PLUTO_VERB="$1" PLUTO_CONNECTION="$2" PLUTO_SA_REQID="$3" PLUTO_ME="$4" PLUTO_PEER="$5" PLUTO_MY_CLIENT="$6" PLUTO_PEER_CLIENT="$7" \
        PLUTO_CLIENT_FAMILY="$8" PLUTO_CONN_ADDRFAMILY="$8" PLUTO_CONN_KIND=CK_PERMANENT PLUTO_INTERFACE=outside PLUTO_STACK=xfrm \
        PLUTO_MY_ID="$4" PLUTO_PEER_ID="$5" PLUTO_MY_PROTOCOL=0 PLUTO_PEER_PROTOCOL=0 PLUTO_MY_PORT=0 PLUTO_PEER_PORT=0 PLUTO_SA_TYPE=ESP \
        PLUTO_NEXT_HOP="$5" PLUTO_XFRMI_ROUTE=yes PLUTO_VIRT_INTERFACE=ipsec5 PLUTO_XFRMI_FWMARK= VTI_IFACE= VTI_ROUTING=no VTI_SHARED=no \
        "$hook" --no-routes
}

# Packets.

# Everybody listens, since firewalls let pings pass where they let nothing else.
listen() {
    local where
    for where in left far right; do
        ip netns exec "$where" python3 -c '
import socket
server = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    client, address = server.accept()
    client.sendall(address[0].encode())
    client.close()' &
    done
}

# reaches FROM ADDRESS: whether a new connection from there gets an answer.
reaches() { ip netns exec "$1" timeout 0.5 bash -c "exec 3<>/dev/tcp/$2/8000"; }

# seen FROM ADDRESS: from which address it seems to come.
seen() { ip netns exec "$1" timeout 0.5 bash -c "cat <>/dev/tcp/$2/8000"; }

# passes: through the tunnel with an interface, from either end, in both families.
passes() { reaches left 10.2.0.9 && reaches far 10.1.0.5 && reaches left fd00:2::9 && reaches far fd00:1::5; }

# in_clear: whether somebody outside gets in without a tunnel, in both families.
in_clear() { reaches right 10.1.0.5 && reaches right fd00:1::5; }

# shut: he does not, in either.
shut() {
    local four
    reaches right 10.1.0.5 &
    four=$!
    ! reaches right fd00:1::5
    local six=$?
    ! wait "$four" && ((six == 0))
}

# Rules.

# The rules of others in the firewall, without counters, and without its order: some
# have another, and other names of chains, at each start.
theirs() {
    local family table
    {
        iptables-save
        ip6tables-save
        # What iptables itself keeps in nftables is above.
        nft -s list tables | while read -r _ family table; do
            case "$family $table" in
            'ip filter' | 'ip nat' | 'ip mangle' | 'ip raw' | 'ip security') continue ;;
            'ip6 filter' | 'ip6 nat' | 'ip6 mangle' | 'ip6 raw' | 'ip6 security') continue ;;
            esac
            nft -s list table "$family" "$table"
        done
    } 2>/dev/null | sed '/PLUTO-/d; /^#/d; s/ \[[0-9]*:[0-9]*\]$//; s/sha-\([lr]\)h-[0-9a-f]*/sha-\1h/' | sort
}

# whole: whether all recorded rules are loaded.
whole() { "$hook" status; }

# gateway_stands: whether the rules that `start` installs are recorded.
gateway_stands() { "$hook" status | grep "^gateway rules: $variant-ipv6, "; }

# lost: whether recorded rules are missing.
lost() {
    local text
    text=$("$hook" status) && return 1
    grep -q '^  fix: pluto-updown restore$' <<<"$text"
}

# stray: whether status reports rules that no record needs.
stray() {
    local text
    text=$("$hook" status)
    [[ $? == 1 ]] && grep "chains of pluto-updown are loaded (.*$variant-ipv6\|^$variant-ipv6 .*leftover chain" <<<"$text"
}

# A reload that is over before the command ends, with our unit or script installed.
survives() { survives_after 0 "$@"; }

# survives_after SECONDS WORDS COMMAND...: the firewall's own rules are as before, ours are loaded, and packets pass. So many seconds after
# the command its work is done.
survives_after() {
    local seconds=$1 words=$2 before after
    shift 2
    before=$(theirs)
    must "$@"
    sleep "$seconds"
    check "$words: our rules are loaded" soon whole
    # Some are active before they have loaded everything.
    soon as_theirs "$before" >/dev/null || true
    after=$(theirs)
    check "$words: its own are as before" diff <(echo "$before") <(echo "$after")
    check "$words: packets through the tunnels pass" soon passes
    check "$words: unencrypted packets do not pass" shut
}

# loses WORDS COMMAND...: without our unit or script. Lost rules are restored by hand.
loses() {
    local words=$1
    shift
    must "$@"
    sleep 0.5
    check "$words, without our unit: our rules are lost" soon lost
    must soon restored
}

# restored: reinstalls our rules, and looks whether all are loaded: a firewall that is still loading deletes them again.
restored() { "$hook" restore && whole; }

# as_theirs BEFORE: whether the others' rules are as they were.
as_theirs() { [[ $1 == "$(theirs)" ]]; }

# keeps WORDS COMMAND...: without our unit or script, which is not needed.
keeps() {
    local words=$1
    shift
    must "$@"
    sleep 0.5
    check "$words, without our unit: our rules are loaded" whole
}

# place FILE TARGET [MODE]: a file of contrib, where its comment says.
place() { must install -D -m "${3:-644}" -- "$contrib/$1" "$2"; }

# unit FILE...: units of contrib, enabled and started.
unit() {
    local file
    for file; do
        place "$file" "/etc/systemd/system/${file##*/}"
        check "${file##*/} can be read by systemd" verify "/etc/systemd/system/${file##*/}"
    done
    must systemctl daemon-reload
    for file; do
        grep -q '^\[Install\]' "$contrib/$file" || continue
        must systemctl enable "${file##*/}"
        must systemctl start "${file##*/}"
    done
}

# It says what is wrong, and succeeds all the same.
verify() {
    local text
    text=$(systemd-analyze verify --man=no "$1" 2>&1 | grep -F "${1##*/}")
    echo "$text"
    [[ -z $text ]]
}

# active UNIT...: whether all of them are; systemctl is content with one.
active() {
    local name
    for name; do systemctl is-active "$name" || { systemctl status --no-pager --full "$name" && false; return; }; done
}

# no_cycle: whether systemd could keep the order of all units at boot.
no_cycle() { ! journalctl -b --no-pager | grep -i 'ordering cycle'; }

# What every scenario begins with.
gateway() {
    cat >/etc/pluto-updown.toml <<'TOML'
[gateway]
ike = "any"
esp = "any"
TOML
    must "$hook" start
    must tunnel up
    must whole
}

# firewalld, with either backend.

firewalld_starts() {
    must firewall-offline-cmd --zone=internal --add-interface=inside
    must firewall-offline-cmd --zone=external --add-interface=outside
    must systemctl enable firewalld
    must restart_firewalld
    gateway
}

# What each of its reloads takes, and that the units put it back.
firewalld_reloads() {
    loses "firewall-cmd --reload" firewall-cmd --reload
    loses "firewall-cmd --complete-reload" firewall-cmd --complete-reload
    loses "systemctl reload firewalld" systemctl reload firewalld
    loses "systemctl restart firewalld" restart_firewalld
    keeps "firewall-cmd --add-service" firewall-cmd --add-service=http
    must firewall-cmd --remove-service=http

    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service firewalld/pluto-updown-firewalld.service
    # It listens.
    sleep 1
    survives_after 1 "firewall-cmd --reload" firewall-cmd --reload
    survives_after 2 "firewall-cmd --complete-reload" firewall-cmd --complete-reload
    survives_after 1 "systemctl reload firewalld" systemctl reload firewalld
    survives_after 1 "systemctl restart firewalld" restart_firewalld
    sleep 1
    survives_after 1 "firewall-cmd --reload after the restart" firewall-cmd --reload
    must systemctl stop firewalld
    check "systemctl stop firewalld: our rules are lost" lost
    must restart_firewalld
    check "systemctl stop and start: our rules are loaded" soon whole
    check "firewalld could load its rules each time" firewalld_loaded
}

# Rules that another program changes while it loads its own can make it fail, and then it drops everything.
firewalld_loaded() { ! journalctl -b --no-pager -u firewalld | grep -A 5 'COMMAND_FAILED\|-restore .* failed'; }

# It is active before it has loaded anything, and answers when it has.
restart_firewalld() { systemctl restart firewalld && firewall-cmd --state; }

for tool in iptables ip6tables; do
    update-alternatives --set "$tool" "/usr/sbin/$tool-$variant" >/dev/null 2>&1
done
soon test -S /run/dbus/system_bus_socket
network
listen
if ((stage == 1)); then
    # Otherwise nothing that is shut later means anything.
    must soon in_clear
    must soon passes
fi
# shellcheck source=/dev/null
. "/lab/tests/$scenario.bash"
"stage_$stage"
exit 0
