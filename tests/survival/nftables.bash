# nftables.service with a file that begins with `flush ruleset`.
# variants: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    local begin
    cat >/etc/nftables.conf <<'NFT'
#!/usr/sbin/nft -f
flush ruleset
table inet mine {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        include "/etc/nftables/ipsec*.nft"
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        rt ipsec exists accept
        oifname "outside" masquerade
    }
}
NFT
    mkdir -p /etc/nftables
    must systemctl enable --now nftables
    gateway
    refuted "its own table drops what ours accepts" passes
    place nftables/ipsec.nft /etc/nftables/ipsec.nft
    must nft -f /etc/nftables.conf
    must "$hook" restore
    refuted "ipsec.nft is for packets that IPsec brought, and lets no other pass" passes
    printf '%s\n' 'iifname "ipsec5" accept' 'oifname "ipsec5" accept' >/etc/nftables/ipsec-devices.nft

    must nft flush ruleset
    begin=${EPOCHREALTIME/./}
    must "$hook" restore
    echo "# restore of 4 tunnels took $(((${EPOCHREALTIME/./} - begin) / 1000)) ms"
    loses "systemctl reload nftables" systemctl reload nftables
    check "with lines for ipsec5 in its table packets pass" passes
    loses "systemctl restart nftables" systemctl restart nftables
    loses "nft -f /etc/nftables.conf" nft -f /etc/nftables.conf

    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service
    survives "systemctl reload nftables" systemctl reload nftables
    survives "systemctl restart nftables" systemctl restart nftables
    must systemctl stop nftables
    check "systemctl stop nftables: our rules are lost" lost
    must systemctl start nftables
    check "systemctl start nftables after a stop: our rules are loaded" soon whole
    check "systemctl start nftables after a stop: the gateway's own too" gateway_stands
    place systemd/firewall.conf /etc/systemd/system/nftables.service.d/pluto-updown.conf
    must systemctl daemon-reload
    must systemctl stop nftables
    check "systemctl stop nftables, with firewall.conf: our rules are loaded" soon whole
    must systemctl start nftables

    unit systemd/pluto-updown-watch.service systemd/pluto-updown-watch.timer
    must nft -f /etc/nftables.conf
    must systemctl start pluto-updown-watch
    survives "nft -f /etc/nftables.conf, and the watch" systemctl start pluto-updown-watch
}
