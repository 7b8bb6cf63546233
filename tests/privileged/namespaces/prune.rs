//! Tunnels that are no longer up, although no daemon said so.

use std::os::unix::fs::PermissionsExt as _;

use pluto_updown::net::Family;
use pluto_updown::netfilter::Backend;

use super::daemons::Daemon;
use crate::support::binary::{Call, Hook};
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, tool};

/// Installs what a daemon has installed before it makes this call.
pub(super) fn add_policies(machine: &Namespace, up: &Call) {
    policies(machine, "add", up);
}

pub(super) fn policies(machine: &Namespace, action: &str, up: &Call) {
    let (local, remote) = (up.get("PLUTO_MY_CLIENT"), up.get("PLUTO_PEER_CLIENT"));
    let number = ["PLUTO_SA_REQID", "PLUTO_REQID"]
        .into_iter()
        .find(|name| up.variables.contains_key(std::ffi::OsStr::new(name)))
        .map(|name| up.get(name).to_owned())
        .expect("a number");
    let template = match action {
        "add" => format!(
            "tmpl src {} dst {} proto esp reqid {number} mode tunnel",
            up.get("PLUTO_ME"),
            up.get("PLUTO_PEER")
        ),
        _ => String::new(),
    };
    let ip = tool("ip").display().to_string();
    for (source, destination, direction) in [(local, remote, "out"), (remote, local, "in"), (remote, local, "fwd")] {
        machine.shell(&format!(
            "{ip} xfrm policy {action} src {source} dst {destination} dir {direction} {template}"
        ));
    }
}

fn prune(hook: &Hook, words: &[&str]) -> String {
    hook.operate(&[&["prune"], words].concat()).said()
}

fn v6() -> Call {
    find_call("libreswan-5.4", "v6", "up-client-v6")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_has_its_policy_stays_and_what_has_none_goes() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let goes = [libreswan_up().of_tunnel(3), libreswan_up().of_tunnel(4), v6()];
        let stays = [libreswan_up(), strongswan_up().of_tunnel(5)];
        for up in &stays {
            add_policies(&machine, up);
            machine.hook().expect_success(up);
        }
        let kept = machine.listing();
        for up in &goes {
            add_policies(&machine, up);
            machine.hook().expect_success(up);
        }
        let all = machine.listing();
        assert_eq!(
            prune(&machine.hook(), &[]),
            "5 tunnels recorded, 0 removed, 0 kept (cannot tell)\n"
        );
        assert_eq!(machine.listing(), all);
        goes.iter().for_each(|up| policies(&machine, "delete", up));
        let text = prune(&machine.hook(), &["--dry-run", "-v"]);
        assert!(
            text.contains("tunnel-3: stale, no IPsec policy in the kernel, would be removed (10."),
            "{text}"
        );
        assert!(
            text.contains("5 tunnels recorded, 3 would be removed, 0 kept (cannot tell)"),
            "{text}"
        );
        assert!(
            text.contains("*filter\n") && text.contains("\n-X PLUTO-tunnel-3-"),
            "{text}"
        );
        assert_eq!(machine.listing(), all);
        let text = prune(&machine.hook(), &[]);
        assert!(
            text.ends_with("5 tunnels recorded, 3 removed, 0 kept (cannot tell)\n"),
            "{text}"
        );
        assert_eq!(machine.listing(), kept, "{backend}");
        assert_eq!(
            prune(&machine.hook(), &[]),
            "2 tunnels recorded, 0 removed, 0 kept (cannot tell)\n"
        );
        // What the daemon says of them later is no fault.
        machine.down_all(&goes);
        stays.iter().for_each(|up| policies(&machine, "delete", up));
        prune(&machine.hook(), &[]);
        machine.assert_as_before(&before);
        assert_eq!(
            prune(&machine.hook(), &[]),
            "0 tunnels recorded, 0 removed, 0 kept (cannot tell)\n"
        );
        assert!(!machine.state().exists());
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_whose_policy_has_another_number_is_kept_and_reported() {
    let machine = Namespace::new(Backend::Nft);
    let up = strongswan_up();
    machine.hook().expect_success(&up);
    let before = machine.listing();
    add_policies(&machine, &up.with("PLUTO_REQID", "77"));
    let text = prune(&machine.hook(), &[]);
    assert!(
        text.contains(": kept: the kernel has a policy between its networks, but of another tunnel (reqid 77)"),
        "{text}"
    );
    assert!(
        text.ends_with("1 tunnel recorded, 0 removed, 1 kept (cannot tell)\n"),
        "{text}"
    );
    assert_eq!(machine.listing(), before);
}

/// A rule that a reload has taken away is no obstacle.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_reload_before_leaves_the_living_ones_rules_right() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let (stays, goes) = (libreswan_up(), libreswan_up().of_tunnel(3));
        add_policies(&machine, &stays);
        machine.hook().expect_success(&stays);
        let alone = machine.listing();
        machine.hook().expect_success(&goes);
        machine.reload(pluto_updown::net::Family::Ipv4);
        let text = prune(&machine.hook(), &[]);
        assert!(
            text.contains("tunnel-3: stale, no IPsec policy in the kernel, removed"),
            "{text}"
        );
        assert_eq!(machine.listing(), alone, "{backend}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn without_the_right_to_ask_the_kernel_nothing_is_forgotten() {
    let machine = Namespace::new(Backend::Nft);
    machine.hook().expect_success(&libreswan_up());
    let before = machine.listing();
    let setpriv = tool("setpriv").display().to_string();
    let hook = machine.started_by(&[&*setpriv, "--bounding-set=-net_admin", "--inh-caps=-all"]);
    let ending = hook.operate(&["prune"]);
    ending.assert_refused(1, &["cannot list the IPsec policies", "not permitted"]);
    assert_eq!(machine.listing(), before);
    assert!(machine.recorded("net-net").is_some());
}

/// The next call of a daemon would clear both; no call comes.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn of_a_daemon_that_was_killed_what_still_has_its_policy_stays() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let (stays, goes) = (libreswan_up(), libreswan_up().of_tunnel(3));
        add_policies(&machine, &stays);
        let mut daemon = Daemon::start(&machine, "pluto");
        daemon.calls(&stays);
        let alone = machine.listing();
        daemon.calls(&goes);
        daemon.dies();
        let text = prune(&machine.hook(), &[]);
        assert!(
            text.ends_with("2 tunnels recorded, 1 removed, 0 kept (cannot tell)\n"),
            "{text}"
        );
        assert_eq!(machine.listing(), alone, "{backend}");
        policies(&machine, "delete", &stays);
        prune(&machine.hook(), &[]);
        machine.assert_as_before(&before);
    }
}

/// The kernel gives the inode number of a deleted namespace to a new one: here its record is moved to that.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_record_of_a_deleted_namespace_says_nothing_of_a_later_one_with_its_number() {
    for backend in VARIANTS {
        let (former, later) = (Namespace::new(backend), Namespace::new(backend));
        let (old, new) = (strongswan_up().of_tunnel(5), libreswan_up());
        former.hook().expect_success(&old);
        let number = later.run(["stat", "-L", "-c", "%i", "/proc/self/ns/net"], "");
        let before = later.listing();
        std::fs::create_dir(later.state()).expect("a folder");
        std::fs::set_permissions(later.state(), std::fs::Permissions::from_mode(0o700)).expect("permissions");
        let moved = later.state().join(number.trim());
        later.shell(&format!("cp -a {} {}", former.record().display(), moved.display()));
        let status = later.hook().operate(&["status"]);
        assert_eq!(status.code, Some(0), "{}", status.out_text());
        assert!(!status.out_text().contains("tunnel-5"), "{}", status.out_text());
        later.hook().expect_success(&new);
        assert!(
            !later.saved(Family::Ipv4).contains("tunnel-5"),
            "{}",
            later.saved(Family::Ipv4)
        );
        later.hook().expect_success(&new.opposite());
        later.assert_as_before(&before);
        // In its own namespace it goes on.
        assert_eq!(former.hook().operate(&["status"]).code, Some(0));
        former.hook().expect_success(&old.opposite());
    }
}

/// strongSwan's `policies = no`: another program installs the policies, and the SAs carry packets.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_without_policies_is_kept_as_long_as_the_kernel_has_its_sa() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let other = libreswan_up().of_tunnel(3);
        add_policies(&machine, &other);
        let v6 = strongswan_up()
            .of_tunnel(6)
            .with_verb("up-client-v6")
            .with("PLUTO_REQID", "66")
            .with("PLUTO_ME", "2001:db8::1")
            .with("PLUTO_PEER", "2001:db8::2")
            .with("PLUTO_MY_CLIENT", "2001:db8:1::/64")
            .with("PLUTO_PEER_CLIENT", "2001:db8:2::/64");
        let ups = [strongswan_up().with("PLUTO_REQID", "44"), v6];
        machine.hook().expect_success(&other);
        // The kernel of the tests may have no ciphers: an SA that waits for its keys is one too.
        machine.shell("echo 3600 >/proc/sys/net/core/xfrm_acq_expires");
        let ip = tool("ip").display().to_string();
        for up in &ups {
            machine.hook().expect_success(up);
            let (from, to, reqid) = (up.get("PLUTO_PEER"), up.get("PLUTO_ME"), up.get("PLUTO_REQID"));
            machine.shell(&format!(
                "{ip} xfrm state allocspi src {from} dst {to} proto esp reqid {reqid} mode tunnel"
            ));
        }
        let text = prune(&machine.hook(), &[]);
        assert_eq!(
            text.matches("the kernel has its SA, but no policy").count(),
            2,
            "{text}"
        );
        assert!(text.contains("3 tunnels") && machine.listing() != before, "{text}");
        machine.shell(&format!("{ip} xfrm state flush"));
        prune(&machine.hook(), &[]);
        machine.hook().expect_success(&other.opposite());
        assert_eq!(machine.listing(), before);
    }
}
