# ufw, which touches only its own chains unless it is configured otherwise.
# by default: nft
# shellcheck shell=bash disable=SC2154 # what lab.bash sets

stage_1() {
    must sed -i 's/^ENABLED=.*/ENABLED=yes/' /etc/ufw/ufw.conf
    must systemctl enable --now ufw
    must ufw allow in on outside to any port 22 proto tcp
    refuted "it drops what is forwarded" reaches far 10.1.0.5
    gateway
    check "packets through the tunnels pass" soon passes

    keeps "ufw reload" ufw reload
    keeps "systemctl restart ufw" systemctl restart ufw
    keeps "ufw allow" ufw allow 2222/tcp
    keeps "ufw disable" ufw disable
    must ufw --force enable
    must sed -i 's/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=yes/' /etc/default/ufw
    loses "ufw reload with MANAGE_BUILTINS=yes" ufw reload
    loses "systemctl restart ufw with MANAGE_BUILTINS=yes" systemctl restart ufw
    loses "ufw-init flush-all" /lib/ufw/ufw-init flush-all
    must ufw reload

    place ufw/after.init /etc/ufw/after.init 755
    must "$hook" restore
    survives "ufw reload with MANAGE_BUILTINS=yes" ufw reload
    survives "ufw-init restart" /lib/ufw/ufw-init restart
    survives "systemctl restart ufw with MANAGE_BUILTINS=yes" systemctl restart ufw
    must ufw disable
    check "ufw disable with MANAGE_BUILTINS=yes: our rules are loaded" whole
    survives_enabling
    must sed -i 's/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=no/' /etc/default/ufw
    survives "ufw reload" ufw reload
    must sed -i 's/^IPV6=.*/IPV6=no/' /etc/default/ufw
    must ufw reload
    check "ufw reload with IPV6=no: our rules are loaded" whole

    # Without after.init.
    must rm /etc/ufw/after.init
    must sed -i -e 's/^IPV6=.*/IPV6=yes/' -e 's/^MANAGE_BUILTINS=.*/MANAGE_BUILTINS=yes/' /etc/default/ufw
    must ufw reload
    must ufw reload
    must "$hook" restore
    unit systemd/pluto-updown.service systemd/pluto-updown-restore.service
    survives "systemctl restart ufw with the unit alone" systemctl restart ufw
}

survives_enabling() {
    must ufw --force enable
    check "ufw enable with MANAGE_BUILTINS=yes: our rules are loaded" whole
    check "ufw enable with MANAGE_BUILTINS=yes: packets through the tunnels pass" passes
    check "ufw enable with MANAGE_BUILTINS=yes: unencrypted packets do not pass" shut
}
