//! What a call may cost, as counts: programs started, system calls, bytes for iptables-restore.
//!
//! Times depend on the machine and on who else uses it; `contrib/bench` takes those. These counts do not, and a change that lets a call do
//! more, or do more the more tunnels stand, shows here.

#[path = "../support/mod.rs"]
mod support;

mod cost;

use cost::{Cost, cost};
use pluto_updown::netfilter::Backend;
use support::captures::{find_call, strongswan_up};
use support::namespace::Namespace;

/// System calls of our own program in a call that changes the firewall, with glibc and strace's and nsenter's own
/// on top. 200 were counted.
const MOST_CALLS: usize = 208;

/// The same where nothing is to be done. 76 were counted.
const MOST_IDLE_CALLS: usize = 90;

/// Bytes for iptables-restore, a third of them tests of what should be there. 1211 were counted.
const MOST_TEXT: usize = 1280;

/// What may differ for no reason of ours: numbers get longer, a buffer is filled in one go or in two.
const SLACK: usize = 12;

#[test]
#[ignore = "needs root: run by contrib/test"]
fn an_up_and_a_down_start_one_program_and_do_not_cost_more_with_more_tunnels() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let few = event(backend, 2);
        let many = event(backend, 200);
        for (few, many) in few.iter().zip(&many) {
            for cost in [few, many] {
                assert_eq!(cost.programs, 1, "{backend}: {cost:?}");
                assert!(cost.calls <= MOST_CALLS, "{backend}: {cost:?}");
                assert!(cost.text <= MOST_TEXT, "{backend}: {cost:?}");
            }
            assert!(many.calls <= few.calls + SLACK, "{backend}: {few:?}, {many:?}");
            assert!(many.text <= few.text + SLACK, "{backend}: {few:?}, {many:?}");
        }
        if backend == Backend::Nft {
            // It reads the chains that the text names, and the names of all chains: many of those come in one message.
            for (few, many) in few.iter().zip(&many) {
                assert!(many.messages <= few.messages + SLACK + 200, "{few:?}, {many:?}");
            }
        }
    }
}

/// What an `up` and its `down` cost with so many tunnels standing, not counting those of the first call, which makes folders.
fn event(backend: Backend, standing: usize) -> [Cost; 2] {
    let machine = Namespace::new(backend);
    let tunnel = |number| {
        strongswan_up()
            .of_tunnel(number)
            .with("PLUTO_REQID", (number + 1).to_string())
    };
    let text: String = (1..=standing).map(|number| tunnel(number).captured()).collect();
    std::fs::write(machine.path("standing.calls"), text).expect("writing the calls");
    let replayed = machine
        .hook()
        .operate(&["replay", &machine.path("standing.calls").display().to_string()]);
    assert_eq!(replayed.code, Some(0), "{}", replayed.out_text());
    let up = tunnel(250);
    [cost(&machine, &up), cost(&machine, &up.opposite())]
}

#[test]
#[ignore = "needs root: run by contrib/test"]
fn an_up_that_changes_nothing_starts_no_program() {
    let machine = Namespace::new(Backend::Nft);
    machine.hook().expect_success(&strongswan_up());
    let again = cost(&machine, &strongswan_up());
    assert_eq!((again.programs, again.text), (0, 0), "{again:?}");
    assert!(again.calls <= MOST_CALLS, "{again:?}");
}

#[test]
#[ignore = "needs root: run by contrib/test"]
fn a_call_that_needs_nothing_asks_the_kernel_for_nothing() {
    let machine = Namespace::new(Backend::Nft);
    for verb in ["prepare-client", "unroute-client"] {
        let call = find_call("libreswan-5.2", "net-net", verb).without("PLUTO_MY_SOURCEIP");
        let cost = cost(&machine, &call);
        assert_eq!(
            (cost.programs, cost.text, cost.questions),
            (0, 0, 0),
            "{verb}: {cost:?}"
        );
        assert!(cost.calls <= MOST_IDLE_CALLS, "{verb}: {cost:?}");
    }
}

#[test]
#[ignore = "needs root: run by contrib/test"]
fn a_route_that_is_not_needed_takes_few_questions() {
    let machine = Namespace::new(Backend::Nft);
    machine
        .shell("ip link set lo up && ip link add w0 type veth peer name w1 && ip link set w0 up && ip link set w1 up");
    machine.shell("ip address add 192.1.2.45/24 dev w0 && ip route add default via 192.1.2.254");
    let call = find_call("libreswan-5.2", "net-net", "route-client").without("PLUTO_MY_SOURCEIP");
    let cost = cost(&machine, &call);
    assert_eq!((cost.programs, cost.text), (0, 0), "{cost:?}");
    // The ways to the remote network and to the next hop, with the name of the interface of each, and the interface towards the peer.
    assert!(cost.questions <= 5, "{cost:?}");
}
