//! Tunnels whose selectors overlap have one order in the kernel, whichever came up last, and after each way to install them again.

use pluto_updown::net::Family;
use pluto_updown::netfilter::{Backend, Table};

use crate::support::binary::Call;
use crate::support::captures::libreswan_up;
use crate::support::gateway::twins;
use crate::support::namespace::{Namespace, VARIANTS, order_independent};

const SETTINGS: &str = "
[[connection]]
name = \"road\"
allow = [\"tcp/22\"]
[[connection]]
name = \"pool\"
allow = [\"tcp/80\"]
host-access = \"no\"
";

const V4: [[&str; 2]; 4] = [
    ["site", "10.9.0.0/24"],
    ["road", "10.9.0.7/32"],
    ["pool", "10.9.0.0/28"],
    ["all", "0.0.0.0/0"],
];

const V6: [[&str; 2]; 4] = [
    ["site", "fd00:9::/64"],
    ["road", "fd00:9::7/128"],
    ["pool", "fd00:9::/124"],
    ["all", "::/0"],
];

/// Every order of four.
fn orders() -> impl Iterator<Item = [usize; 4]> {
    (0..256).filter_map(|number| {
        let order = [number / 64, number / 16 % 4, number / 4 % 4, number % 4];
        (0..4).all(|index| order.contains(&index)).then_some(order)
    })
}

/// The `up` of a tunnel by one interface that is there.
fn up(family: Family, [name, remote]: [&str; 2]) -> Call {
    let call = libreswan_up()
        .with("PLUTO_CONNECTION", name)
        .with("PLUTO_PEER_CLIENT", remote)
        .with("PLUTO_SA_REQID", "16389");
    match family {
        Family::Ipv4 => call,
        Family::Ipv6 => call
            .with_verb("up-client-v6")
            .with("PLUTO_CLIENT_FAMILY", "ipv6")
            .with("PLUTO_MY_CLIENT", "fd00:1::/64"),
    }
}

/// The rules of each chain, as the kernel lists them.
fn rules(machine: &Namespace, family: Family) -> Vec<String> {
    let listed = machine.saved_table(machine.backend, family, Table::Filter);
    let mut rules: Vec<_> = order_independent(&listed)
        .lines()
        .filter(|line| line.contains("-A PLUTO-"))
        .map(str::to_owned)
        .collect();
    rules.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
    rules
}

fn assert_one_order(backend: Backend, family: Family, tunnels: [[&str; 2]; 4]) {
    let machine = Namespace::new(backend);
    machine.settings(SETTINGS);
    let operate = |word: &str| {
        let ending = machine.hook().operate(&[word]);
        assert_eq!(ending.code, Some(0), "{word}: {}", ending.err_text());
        ending.out_text()
    };
    let mut wanted: Option<Vec<String>> = None;
    for order in orders() {
        let mut expect_same = |what: &str| {
            let installed = rules(&machine, family);
            let wanted = wanted.get_or_insert_with(|| installed.clone());
            assert_eq!(*wanted, installed, "{backend} {family} {order:?} {what}");
        };
        for index in order {
            machine.hook().expect_success(&up(family, tunnels[index]));
        }
        expect_same("ups");
        match order[0] {
            0 => drop(operate("start")),
            1 => drop(operate("restore")),
            _ => {
                machine.tables(family, &["-F"]);
                machine.tables(family, &["-X"]);
                operate("restore");
            }
        }
        expect_same("put in anew");
        machine.hook().expect_success(&up(family, tunnels[order[1]]).opposite());
        machine.hook().expect_success(&up(family, tunnels[order[1]]));
        expect_same("down and up");
        for index in order {
            machine.hook().expect_success(&up(family, tunnels[index]).opposite());
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn tunnels_that_overlap_have_one_order_in_the_kernel_whichever_came_up_last() {
    for backend in VARIANTS {
        assert_one_order(backend, Family::Ipv4, V4);
        assert_one_order(backend, Family::Ipv6, V6);
    }
}

/// Restricted tunnels between the same networks and with one reqid, of which one is for TCP alone: what refuses for one is equal to what
/// refuses for the other, but for the names.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_down_of_one_of_two_alike_leaves_the_rules_that_a_restore_would_make() {
    const ALIKE: &str = "[tunnel]\nallow = [\"tcp/22\", \"udp/53\"]\nhost-access = \"yes\"\nlog = \"denied\"\n";
    for (backend, family) in twins() {
        let remote = match family {
            Family::Ipv4 => V4[0][1],
            Family::Ipv6 => V6[0][1],
        };
        let narrowed = |call: Call| call.with("PLUTO_MY_PROTOCOL", "6").with("PLUTO_PEER_PROTOCOL", "6");
        let [wide, narrow, twin] = ["wide", "narrow", "twin"].map(|name| up(family, [name, remote]));
        let tunnels = [wide, narrowed(narrow), twin];
        for gone in &tunnels {
            let machine = Namespace::new(backend);
            machine.settings(ALIKE);
            machine.call_all(&tunnels);
            machine.hook().expect_success(&gone.clone().opposite());
            let left = rules(&machine, family);
            let status = machine.hook().operate(&["status"]);
            let name = gone.get("PLUTO_CONNECTION");
            assert_eq!(status.code, Some(0), "{backend} {family} {name}: {}", status.out_text());
            machine.tables(family, &["-F"]);
            machine.tables(family, &["-X"]);
            assert_eq!(machine.hook().operate(&["restore"]).code, Some(0));
            assert_eq!(rules(&machine, family), left, "{backend} {family} {name}");
        }
    }
}
