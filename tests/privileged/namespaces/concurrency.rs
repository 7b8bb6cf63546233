//! Calls at the same time, as libreswan 5.4 makes them with `updown-config=async`.

use std::thread;

use crate::support::binary::Call;
use crate::support::captures::{find_call, libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS};

/// Makes all these calls at once; all of them go well.
fn at_once(machine: &Namespace, calls: impl IntoIterator<Item = Call>) {
    let hook = machine.hook();
    let children: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let hook = hook.clone();
            thread::spawn(move || hook.expect_success(&call))
        })
        .collect();
    for child in children {
        child.join().expect("a call that goes well");
    }
}

/// The `up` of one of many tunnels: some share a bucket, some do not, and every fourth is of IPv6.
fn up(number: usize) -> Call {
    match number % 4 {
        3 => find_call("libreswan-5.4", "v6", "up-client-v6")
            .with("PLUTO_CONNECTION", format!("tunnel-{number}"))
            .with("PLUTO_PEER_CLIENT", format!("fd00:{number}::/64")),
        _ => libreswan_up().of_tunnel(number * 7),
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn forty_calls_at_once_end_as_one_after_the_other() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        at_once(&machine, (1..=20).map(up));
        assert!(machine.own_chains().iter().all(|chains| chains.len() > 20));
        let downs = (1..=20).map(|number| up(number).opposite());
        at_once(&machine, downs.chain((21..=40).map(neighbour)));
        let orderly = Namespace::new(backend);
        (21..=40)
            .map(neighbour)
            .for_each(|call| orderly.hook().expect_success(&call));
        assert_eq!(machine.own_chains(), orderly.own_chains(), "{backend}");
        at_once(&machine, (21..=40).map(|number| neighbour(number).opposite()));
        machine.assert_as_before(&before);
    }
}

/// A tunnel to a network near others': 10.100.NUMBER.0/24.
fn neighbour(number: usize) -> Call {
    libreswan_up()
        .of_tunnel(number)
        .with("PLUTO_PEER_CLIENT", format!("10.100.{number}.0/24"))
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn forty_ups_of_one_strongswan_tunnel_need_forty_downs() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        at_once(&machine, vec![strongswan_up(); 40]);
        let up = machine.listing();
        at_once(&machine, vec![strongswan_up().opposite(); 39]);
        assert_eq!(machine.listing(), up, "{backend}");
        machine.hook().expect_success(&strongswan_up().opposite());
        machine.assert_as_before(&before);
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn ups_and_downs_of_one_tunnel_at_once_leave_it_wholly_up_or_wholly_down() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let alone = Namespace::new(backend);
        alone.hook().expect_success(&libreswan_up());
        for _ in 0..3 {
            at_once(
                &machine,
                (0..20).map(|n| {
                    if n % 2 == 0 {
                        libreswan_up()
                    } else {
                        libreswan_up().opposite()
                    }
                }),
            );
            match machine.recorded("net-net").is_some() {
                true => assert_eq!(machine.listing(), alone.listing()),
                false => machine.assert_as_before(&before),
            }
        }
        machine.hook().expect_success(&libreswan_up().opposite());
        machine.assert_as_before(&before);
    }
}
