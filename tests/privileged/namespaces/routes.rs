//! Routes, addresses and what goes with them: who holds them, and what is left of them.

use std::fs;

use super::daemons::Daemon;
use crate::support::binary::{Call, Hook};
use crate::support::captures::libreswan_up;
use crate::support::namespace::Namespace;
use pluto_updown::netfilter::Backend;

/// A machine with a way out: an outer network and a default route.
pub(crate) struct Router {
    pub(crate) machine: Namespace,
}

impl Router {
    pub(crate) fn new() -> Self {
        Self::with(Backend::Nft)
    }

    /// With this backend of iptables.
    pub(crate) fn with(backend: Backend) -> Self {
        let machine = Namespace::new(backend);
        for line in [
            "link set lo up",
            "link add w0 type veth peer name outside",
            "link set outside up",
            "link set w0 up",
            "addr add 192.1.2.45/24 dev w0",
            "route add default via 192.1.2.254",
        ] {
            machine.run(["ip"].into_iter().chain(line.split(' ')), "");
        }
        Self { machine }
    }

    pub(crate) fn hook(&self) -> Hook {
        self.machine.whole_hook(&[])
    }

    /// Everything that `ip` knows of routes, addresses, rules and proxy neighbours.
    pub(crate) fn state(&self) -> String {
        let show = |words: &str| self.machine.run(["ip"].into_iter().chain(words.split(' ')), "");
        [
            "-4 route show table all",
            "-4 -o address",
            "-4 rule",
            "-4 neigh show proxy",
        ]
        .map(show)
        .join("\n")
    }

    pub(crate) fn expect_success(&self, call: &Call) {
        self.hook().expect_success(call);
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.state().contains(line)
    }
}

/// A connection with a source address that is not local.
pub(crate) fn route() -> Call {
    libreswan_up()
        .with_verb("route-client")
        .with("PLUTO_MY_SOURCEIP", "10.1.0.1")
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_life_leaves_nothing() {
    let router = Router::new();
    let before = router.state();
    for verb in ["up-client", "prepare-client", "route-client"] {
        router.expect_success(&route().with_verb(verb));
    }
    assert!(
        router.has("10.2.0.0/24 dev w0 scope link src 10.1.0.1"),
        "{}",
        router.state()
    );
    assert!(router.has("inet 10.1.0.1/32 scope 50 lo"), "{}", router.state());
    router.expect_success(&route().with_verb("down-client"));
    assert!(router.has("10.2.0.0/24 dev w0"), "the route outlives the tunnel");
    router.expect_success(&route().with_verb("unroute-client"));
    assert_eq!(router.state(), before);
    assert!(!router.machine.state().exists());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_by_an_ordinary_interface_gets_no_rules() {
    let router = Router::new();
    router
        .machine
        .run("ip link add ipsec7 type veth peer name ipsec8".split(' '), "");
    let before = router.machine.listing();
    for interface in ["w0", "ipsec7"] {
        for call in [
            libreswan_up().with("VTI_IFACE", interface),
            libreswan_up()
                .with("PLUTO_XFRMI_ROUTE", "yes")
                .with("PLUTO_VIRT_INTERFACE", interface),
        ] {
            let ending = router.hook().call(&call);
            let output = ending.err_text();
            let expected = format!("{interface} is no VTI, XFRM or KLIPS interface");
            assert!(output.contains(&expected), "{output}");
            ending.assert_one_line();
            assert_eq!(router.machine.listing(), before);
        }
    }
    router.machine.settings("[tunnel]\nallow = \"replies\"\n");
    let call = libreswan_up().with("VTI_IFACE", "w0");
    router.hook().call(&call).assert_refused(1, &["w0 is no VTI"]);
    assert_eq!(router.machine.listing(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn routes_never_lead_into_an_ordinary_interface_for_a_vti() {
    let router = Router::new();
    let before = router.state();
    let call = libreswan_up()
        .with_verb("route-client")
        .with("VTI_IFACE", "w0")
        .with("VTI_ROUTING", "yes")
        .with("CONNMARK_IN", "5/0xffffffff")
        .with("CONNMARK_OUT", "6/0xffffffff");
    let output = router.hook().call(&call).err_text();
    // Where the kernel has no VTI it says so.
    assert!(
        output.contains("the interface w0 is no VTI") || output.contains("Operation not supported"),
        "{output}"
    );
    assert_eq!(router.state(), before);
}

/// What others may have installed where a route of ours goes, each as a line of `ip`.
const REPLACED: [&str; 6] = [
    "route add blackhole 10.2.0.0/24",
    "route add unreachable 10.2.0.0/24 proto static",
    "route add 10.2.0.0/24 via 192.1.2.77 dev w0 proto static mtu 1300",
    "route add 10.2.0.0/24 nexthop via 192.1.2.77 weight 2 nexthop via 192.1.2.78",
    "route add 10.2.0.0/24 via 203.0.113.9 dev w0 onlink",
    "addr add 10.2.0.9/24 dev outside",
];

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_a_route_of_ours_replaces_comes_back() {
    for line in REPLACED {
        let router = Router::new();
        router.machine.run(["ip"].into_iter().chain(line.split(' ')), "");
        let before = router.state();
        for _ in 0..2 {
            router.expect_success(&route());
            assert!(
                router.has("10.2.0.0/24 dev w0 scope link src 10.1.0.1"),
                "{line}: {}",
                router.state()
            );
            // Again, as after a reconnect.
            router.expect_success(&route());
            router.expect_success(&route().with_verb("unroute-client"));
            assert_eq!(router.state(), before, "{line}");
            assert!(!router.machine.state().exists(), "{line}");
        }
        // Without a word of the daemon.
        router.expect_success(&route());
        assert_eq!(router.hook().operate(&["flush", "--yes"]).code, Some(0));
        assert_eq!(router.state(), before, "{line}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_ipv6_route_that_is_replaced_comes_back() {
    let router = Router::new();
    router
        .machine
        .shell("ip -6 addr add 2001:db8:ff::1/64 dev w0 nodad; ip -6 route add default via 2001:db8:ff::fe");
    router.machine.shell("ip -6 route add blackhole 2001:db8:2::/64");
    let state = || {
        router
            .machine
            .shell("ip -6 route show table all | sed 's/ expires [0-9]*sec//'")
    };
    let before = state();
    let call = libreswan_up()
        .with("PLUTO_MY_CLIENT", "2001:db8:1::/64")
        .with("PLUTO_PEER_CLIENT", "2001:db8:2::/64")
        .with("PLUTO_MTU", "1400");
    router.expect_success(&call.clone().with_verb("route-client-v6"));
    assert!(state().contains("2001:db8:2::/64 dev w0"), "{}", state());
    router.expect_success(&call.with_verb("unroute-client-v6"));
    assert_eq!(state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_route_that_somebody_put_there_since_is_left_alone() {
    let router = Router::new();
    router.machine.shell("ip route add blackhole 10.2.0.0/24");
    router.expect_success(&route());
    router
        .machine
        .shell("ip route replace 10.2.0.0/24 via 192.1.2.77 dev w0");
    router.expect_success(&route().with_verb("unroute-client"));
    assert!(router.has("10.2.0.0/24 via 192.1.2.77 dev w0"), "{}", router.state());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_reconnect_with_another_source_address_renews_the_route() {
    let router = Router::new();
    let before = router.state();
    router.expect_success(&route().with_verb("up-client"));
    router.expect_success(&route());
    router.expect_success(&route().with_verb("down-client"));
    let again = route().with("PLUTO_MY_SOURCEIP", "10.1.0.9");
    router.expect_success(&again.clone().with_verb("up-client"));
    assert!(
        router.has("10.2.0.0/24 dev w0 scope link src 10.1.0.9"),
        "{}",
        router.state()
    );
    assert!(!router.has("10.1.0.1"), "{}", router.state());
    router.expect_success(&again.clone().with_verb("down-client"));
    router.expect_success(&again.with_verb("unroute-client"));
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_route_through_a_gateway_that_is_on_the_link_by_its_own_route_is_made() {
    let router = Router::new();
    router
        .machine
        .shell("ip route del default; ip addr flush dev w0; ip addr add 192.0.2.7/32 dev w0");
    router
        .machine
        .shell("ip route add default via 172.31.1.1 dev w0 onlink");
    let before = router.state();
    let call = route()
        .with("PLUTO_NEXT_HOP", "172.31.1.1")
        .with("PLUTO_ME", "192.0.2.7");
    router.expect_success(&call);
    assert!(
        router.has("10.2.0.0/24 via 172.31.1.1 dev w0 src 10.1.0.1 onlink"),
        "{}",
        router.state()
    );
    router.expect_success(&call.with_verb("unroute-client"));
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_source_address_stays_as_long_as_a_network_needs_it() {
    let router = Router::new();
    let before = router.state();
    router.expect_success(&route());
    router.expect_success(&route().of_tunnel(3));
    router.expect_success(&route().with_verb("unroute-client"));
    assert!(router.has("10.1.0.1/32 scope 50 lo"));
    // The connection that is named last is another than the one that was named first.
    router.expect_success(
        &route()
            .of_tunnel(3)
            .with("PLUTO_CONNECTION", "other")
            .with_verb("unroute-client"),
    );
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn an_address_of_the_administrators_is_left_alone() {
    let router = Router::new();
    router.machine.run("ip addr add 10.1.0.1/24 dev w0".split(' '), "");
    let before = router.state();
    router.expect_success(&route());
    assert!(router.has("10.2.0.0/24 dev w0 scope link src 10.1.0.1"));
    router.expect_success(&route().with_verb("unroute-client"));
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_source_address_stays_for_an_administrators_route() {
    let router = Router::new();
    router.expect_success(&route());
    router
        .machine
        .run("ip route add 10.77.0.0/16 dev w0 src 10.1.0.1".split(' '), "");
    router.expect_success(&route().with_verb("unroute-client"));
    assert!(router.has("10.77.0.0/16 dev w0 scope link src 10.1.0.1") && router.has("10.1.0.1/32 scope 50 lo"));
    router.machine.run("ip route del 10.77.0.0/16".split(' '), "");
    router.expect_success(&route().with_verb("unroute-client"));
    assert!(!router.has("10.1.0.1"));
    assert!(!router.machine.state().exists());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_route_that_the_kernel_refuses_leaves_nothing_and_one_line() {
    let router = Router::new();
    let before = router.state();
    // No such next hop is on the link.
    let refused = route().with("PLUTO_NEXT_HOP", "203.0.113.9");
    for (verb, code) in [("route-client", 0), ("route-client-v6", 1)] {
        let ending = router.hook().call(&refused.clone().with_verb(verb));
        ending.assert_refused(code, &[verb, "10.2.0.0/24", "203.0.113.9", "Network is unreachable"]);
        assert_eq!(router.state(), before, "the source address went with it");
        assert!(!router.machine.state().exists());
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_refused_change_leaves_the_route_that_was_there() {
    let router = Router::new();
    router.expect_success(&route());
    let routed = router.state();
    let refused = route()
        .with("PLUTO_NEXT_HOP", "203.0.113.9")
        .with("PLUTO_MY_SOURCEIP", "10.1.0.2");
    router
        .hook()
        .call(&refused)
        .assert_refused(0, &["Network is unreachable"]);
    assert_eq!(router.state(), routed);
    router.expect_success(&route().with_verb("unroute-client"));
    assert!(!router.machine.state().exists());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_changed_route_leaves_nothing_of_the_old_one() {
    let router = Router::new();
    let before = router.state();
    router.expect_success(&route().with("PLUTO_METRIC", "7"));
    router.expect_success(&route().with("PLUTO_MY_SOURCEIP", "10.1.0.2"));
    let state = router.state();
    assert!(!state.contains("metric 7"), "{state}");
    assert!(state.contains("10.2.0.0/24 dev w0 scope link src 10.1.0.2"), "{state}");
    router.expect_success(&route().with_verb("unroute-client"));
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_is_gone_already_is_no_obstacle() {
    let router = Router::new();
    let before = router.state();
    router.expect_success(&route());
    router.machine.run("ip route del 10.2.0.0/24".split(' '), "");
    router.machine.run("ip addr del 10.1.0.1/32 dev lo".split(' '), "");
    router.expect_success(&route().with_verb("unroute-client"));
    assert_eq!(router.state(), before);
    router.expect_success(&route().with_verb("unroute-client"));
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn what_somebody_took_away_comes_back_with_the_next_route() {
    let router = Router::new();
    router.expect_success(&route());
    let routed = router.state();
    router.machine.run("ip route del 10.2.0.0/24".split(' '), "");
    router.expect_success(&route());
    assert_eq!(router.state(), routed);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_moving_tunnel_keeps_its_source_address() {
    let router = Router::new();
    let before = router.state();
    router.expect_success(&route());
    let unroute = route().with_verb("unroute-client");
    router.expect_success(&unroute.clone().with("PLUTO_MOBIKE_EVENT", "yes"));
    assert!(router.has("10.1.0.1/32 scope 50 lo") && !router.has("10.2.0.0/24"));
    router.expect_success(&route());
    router.expect_success(&unroute);
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_remote_network_without_a_route_gets_one_from_the_hook() {
    let router = Router::new();
    router.machine.run("ip route del default".split(' '), "");
    let before = router.state();
    let plain = route().without("PLUTO_MY_SOURCEIP");
    router.expect_success(&plain);
    assert!(router.has("10.2.0.0/24 dev w0 scope link"));
    router.expect_success(&plain);
    assert!(
        router.has("10.2.0.0/24 dev w0 scope link"),
        "it is needed though it stands"
    );
    router.expect_success(&plain.with_verb("unroute-client"));
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_routes_of_a_dead_daemon_go_with_the_next_ones_first_call() {
    let router = Router::new();
    let before = router.state();
    let mut first = Daemon::start_whole(&router.machine, "pluto");
    first.calls(&route());
    first.calls(&route().of_tunnel(3));
    first.dies();
    assert!(router.has("10.2.0.0/24") && router.has("10.3.0.0/24"));
    let mut second = Daemon::start_whole(&router.machine, "pluto");
    second.calls(&route());
    assert!(
        router.has("10.2.0.0/24") && !router.has("10.3.0.0/24"),
        "{}",
        router.state()
    );
    second.calls(&route().with_verb("unroute-client"));
    assert_eq!(router.state(), before);
}

/// A `start` between the two removes the dead daemon's tunnels; nobody would know of its routes then.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn start_removes_the_routes_of_a_dead_daemon_with_its_tunnels() {
    let router = Router::new();
    let before = router.state();
    let mut daemon = Daemon::start_whole(&router.machine, "pluto");
    daemon.calls(&libreswan_up().without("PLUTO_MY_SOURCEIP"));
    daemon.calls(&route());
    daemon.calls(&route().of_tunnel(3));
    daemon.dies();
    assert!(router.has("10.2.0.0/24") && router.has("10.3.0.0/24"));
    let start = router.machine.whole_hook(&[]).operate(&["start"]);
    assert_eq!((start.code, start.err_text().as_str()), (Some(0), ""));
    assert_eq!(router.state(), before);
    assert!(!router.machine.state().exists());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_call_that_needs_no_route_makes_no_record_and_waits_for_no_lock() {
    let router = Router::new();
    let plain = route().without("PLUTO_MY_SOURCEIP");
    router.expect_success(&libreswan_up());
    let folder = fs::read_dir(router.machine.state())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let lock = folder.join("lock");
    let mut holder = router
        .machine
        .command(["flock", lock.to_str().unwrap(), "sleep", "60"])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    for verb in ["prepare-client", "route-client", "unroute-client"] {
        let other = plain.clone().of_tunnel(3).with_verb(verb);
        router.expect_success(&other);
    }
    assert!(!folder.join("network/installed/10.3.0.0-24").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_life_starts_no_program_but_iptables_restore() {
    let router = Router::new();
    let log = router.machine.path("programs.log");
    for verb in [
        "up-client",
        "prepare-client",
        "route-client",
        "down-client",
        "unroute-client",
    ] {
        let strace = [
            "strace",
            "-qq",
            "-f",
            "-e",
            "trace=execve",
            "-e",
            "signal=none",
            "-o",
            log.to_str().unwrap(),
            "--",
        ];
        router
            .machine
            .whole_hook(&strace)
            .expect_success(&route().with_verb(verb));
        let text = fs::read_to_string(&log).unwrap();
        let others: Vec<_> = text
            .lines()
            .skip(1)
            .filter(|line| line.contains("execve(") && !line.contains("iptables-restore\", "))
            .collect();
        assert!(others.is_empty(), "{verb}: {others:?}");
        let restores = text.lines().filter(|line| line.contains("-restore\", ")).count();
        assert_eq!(
            restores,
            usize::from(["up-client", "down-client"].contains(&verb)),
            "{verb}:\n{text}"
        );
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_dry_run_shows_lines_that_do_the_same() {
    let router = Router::new();
    let before = router.state();
    let shown = router.hook().word("--dry-run").call(&route()).out_text();
    assert_eq!(router.state(), before);
    router.machine.run(["sh", "-e"], &shown);
    let by_hand = router.state();
    router.machine.run("ip route del 10.2.0.0/24".split(' '), "");
    router.machine.run("ip addr del 10.1.0.1/32 dev lo".split(' '), "");
    router.expect_success(&route());
    assert_eq!(router.state(), by_hand);
    let shown = router
        .hook()
        .word("--dry-run")
        .call(&route().with_verb("unroute-client"))
        .out_text();
    router.machine.run(["sh", "-e"], &shown);
    assert_eq!(router.state(), before);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn restore_says_nothing_of_routes_that_are_installed() {
    let router = Router::new();
    router.expect_success(&route());
    let nothing = "nothing to restore, all rules are loaded\n";
    router.expect_success(&route().with_verb("up-client"));
    assert_eq!(router.hook().operate(&["restore"]).out_text(), nothing);
    // One of another kind.
    let plain = route()
        .of_tunnel(7)
        .without("PLUTO_MY_SOURCEIP")
        .with("PLUTO_MTU", "1400")
        .with_verb("route-client");
    router.expect_success(&plain.with("PLUTO_NEXT_HOP", "192.1.2.254"));
    assert_eq!(router.hook().operate(&["restore"]).out_text(), nothing);
    router.machine.run(["ip", "route", "del", "10.7.0.0/24"], "");
    let said = router.hook().operate(&["restore"]).out_text();
    assert!(said.starts_with("restored: ip -4 route replace 10.7.0.0/24"), "{said}");
    assert_eq!(router.hook().operate(&["restore"]).out_text(), nothing);
}
