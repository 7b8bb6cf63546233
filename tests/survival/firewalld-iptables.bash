# firewalld with FirewallBackend=iptables: the same tables as ours.
# by default: nft
# shellcheck shell=bash

stage_1() {
    must sed -i 's/^FirewallBackend=.*/FirewallBackend=iptables/' /etc/firewalld/firewalld.conf
    must firewall-offline-cmd --zone=internal --add-interface=inside
    must firewall-offline-cmd --zone=external --add-interface=outside
    must systemctl enable firewalld
    must restart_firewalld
    gateway
    check "what goes through the tunnels passes" soon passes

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
    check "systemctl stop and start: our rules stand" soon whole
}

stage_2() {
    must soon systemctl is-active firewalld pluto-updown pluto-updown-firewalld
    check "no unit was given up for its order" no_cycle
    must tunnel up
    check "after the next boot what goes through the tunnels passes" soon passes
    sleep 1
    survives_after 1 "firewall-cmd --reload after a boot" firewall-cmd --reload
}

# It is active before it has loaded anything, and answers when it has.
restart_firewalld() { systemctl restart firewalld && firewall-cmd --state; }
