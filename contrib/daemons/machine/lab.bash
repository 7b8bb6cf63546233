# The network of one scenario, in namespaces of the machine. Sourced, not run.
# shellcheck shell=bash disable=SC2034,SC2154 # one program in several files: what is set here is used there
#
#   client-west -- west --+
#                         |
#   client-east -- east --+-- net (a bridge; the stranger sits on it)
#                         |
#  client-north - north --+
#
# Behind NAT, west sits on a network of its own, and `nat` is between it and the bridge.

declare -A ns_of address_of device_of
declare -A number=([west]=1 [east]=2 [north]=3)

# place NAME NAMESPACE ADDRESS: a name that scenarios may use for an address of a namespace.
place() {
    ns_of[$1]=$2
    address_of[$1]=$3
}

# address NAME: what NAME stands for; what is no name stands for itself.
address() { printf '%s' "${address_of[$1]:-$1}"; }

# Only the network: `ip netns exec` mounts a /sys as well, which takes longer than most of what is run.
inside() {
    local ns=$1
    shift
    nsenter --net="/run/netns/$ns" "$@"
}

# The first number names a namespace wherever it is recorded, the second is a process in it, for /proc.
declare -A inode_of process_of

# firewall GATEWAY: empties it and puts in what a gateway needs whatever its hook does. This is what a reload does too.
firewall() {
    inside "$1" iptables-restore <<'RULES'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p udp -m multiport --dports 500,4500 -j ACCEPT
-A INPUT -p esp -j ACCEPT
-A INPUT -p ah -j ACCEPT
COMMIT
RULES
    inside "$1" ip6tables-restore <<'RULES'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p udp -m multiport --dports 500,4500 -j ACCEPT
-A INPUT -p esp -j ACCEPT
-A INPUT -m ah -j ACCEPT
-A INPUT -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT
-A INPUT -p icmpv6 --icmpv6-type neighbour-advertisement -j ACCEPT
-A INPUT -p icmpv6 --icmpv6-type router-advertisement -j ACCEPT
COMMIT
RULES
}

# lay_net GATEWAY...: all namespaces, links, addresses and routes, and the gateways' firewalls.
lay_net() {
    local gateway n other
    new_namespaces net "$@" "${@/#/client-}" ${behind_nat:+nat}
    ip -n net -batch - <<'LINKS'
link set lo up
link add br0 type bridge forward_delay 0 stp_state 0
link set br0 up
addr add 192.0.2.254/24 dev br0
addr add 2001:db8:ff::fe/64 dev br0 nodad
LINKS
    place stranger net 192.0.2.254
    place stranger6 net 2001:db8:ff::fe
    for gateway; do
        n=${number[$gateway]}
        ip -batch - <<LINKS
link add $gateway-o netns $gateway type veth peer name to-$gateway netns net
link add $gateway-i netns $gateway type veth peer name lan netns client-$gateway
LINKS
        ip -n net -batch - <<LINKS
link set to-$gateway master br0 up
LINKS
        ip -n "$gateway" -batch - <<LINKS
link set lo up
link set $gateway-o up
link set $gateway-i up
addr add 10.$n.0.1/24 dev $gateway-i
addr add 10.1$n.0.1/24 dev $gateway-i
addr add 2001:db8:$n::1/64 dev $gateway-i nodad
LINKS
        ip -n "client-$gateway" -batch - <<LINKS
link set lo up
link set lan up
addr add 10.$n.0.10/24 dev lan
addr add 10.1$n.0.10/24 dev lan
addr add 2001:db8:$n::10/64 dev lan nodad
route add default via 10.$n.0.1
route add default via 2001:db8:$n::1
LINKS
        device_of[$gateway]=$gateway-o
        place "client-$gateway" "client-$gateway" "10.$n.0.10"
        place "client-$gateway-2" "client-$gateway" "10.1$n.0.10"
        place "client-${gateway}6" "client-$gateway" "2001:db8:$n::10"
        place "$gateway-inside" "$gateway" "10.$n.0.1"
        place "$gateway-inside6" "$gateway" "2001:db8:$n::1"
        if [[ $gateway == west && ${behind_nat:-} ]]; then lay_nat; else
            place "$gateway" "$gateway" "192.0.2.$n"
            place "${gateway}6" "$gateway" "2001:db8:ff::$n"
            ip -n "$gateway" -batch - <<LINKS
addr add 192.0.2.$n/24 dev $gateway-o
addr add 2001:db8:ff::$n/64 dev $gateway-o nodad
route add default via 192.0.2.254
route add default via 2001:db8:ff::fe
LINKS
        fi
        # shellcheck disable=SC2016 # for the inner shell
        inside "$gateway" bash -c 'cd /proc/sys/net
            for name; do echo 1 >"$name"; done
            for name in ipv4/conf/{all,*-o}/{rp_filter,send_redirects,accept_redirects}; do echo 0 >"$name"; done' - \
            ipv4/ip_forward ipv6/conf/all/forwarding "ipv4/conf/$gateway-o/promote_secondaries"
        firewall "$gateway"
    done
    # Clear text finds its way as well: what does not arrive has been refused, not lost.
    for gateway; do
        n=${number[$gateway]}
        for other; do
            [[ $other == "$gateway" ]] && continue
            [[ $other == west && ${behind_nat:-} || $gateway == west && ${behind_nat:-} ]] && continue
            ip -n "$other" -batch - <<LINKS
route add 10.$n.0.0/24 via 192.0.2.$n
route add 10.1$n.0.0/24 via 192.0.2.$n
route add 2001:db8:$n::/64 via 2001:db8:ff::$n
LINKS
        done
        # The stranger knows the ways in.
        ip -n net -batch - <<LINKS
route add 10.$n.0.0/24 via 192.0.2.$n
route add 10.1$n.0.0/24 via 192.0.2.$n
route add 2001:db8:$n::/64 via 2001:db8:ff::$n
LINKS
    done
}

lay_nat() {
    ip link add nat-i netns nat type veth peer name west-n netns west
    ip link add nat-o netns nat type veth peer name to-nat netns net
    ip -n net link set to-nat master br0 up
    # The outer interface keeps its name, so that scenarios need not know.
    ip -n west link del west-o
    ip -n west link set west-n name west-o up
    ip -n west -batch - <<'LINKS'
addr add 192.168.77.2/24 dev west-o
route add default via 192.168.77.1
LINKS
    ip -n nat -batch - <<'LINKS'
link set lo up
link set nat-i up
link set nat-o up
addr add 192.168.77.1/24 dev nat-i
addr add 192.0.2.77/24 dev nat-o
LINKS
    inside nat bash -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    inside nat iptables -t nat -A POSTROUTING -o nat-o -j MASQUERADE
    place west west 192.168.77.2
    place nat nat 192.0.2.77
}

# new_namespaces NAME...
new_namespaces() {
    local name inode
    printf 'netns add %s\n' "$@" | ip -batch -
    while read -r inode name; do inode_of[${name##*/}]=$inode; done < <(stat -L -c '%i %n' "${@/#//run/netns/}")
    for name; do
        nsenter --net="/run/netns/$name" sleep infinity &
        process_of[$name]=$!
    done
}

# Ends what runs in the namespaces of the last scenario, and takes them away. A namespace at a time, `ip netns` would look through all
# processes for each.
clear_net() {
    local own processes
    own=$(readlink /proc/self/ns/net)
    # It is a pattern, and the brackets in it stand for themselves. Some processes end while it looks.
    mapfile -t processes < <(find /proc/[0-9]*/ns/net -lname 'net:*' ! -lname "${own/[/\\[}" -printf '%h\n' 2>/dev/null)
    processes=("${processes[@]#/proc/}")
    ((${#processes[@]} == 0)) || kill -9 "${processes[@]%/ns}" 2>/dev/null || true
    ip netns list | sed 's/ .*//; s/^/netns del /' | ip -force -batch -
}
