//! Two networks that several connections ask to be blocked from talking unencrypted (`when-down = "block"`): they stay so as long as one
//! of them asks, and only what all of them let by passes.

use pluto_updown::apply::{Blocked, TunnelOutcome};
use pluto_updown::daemon::{ConnectionName, Tunnel};

use crate::support::gateway::{Gateway, gateways};
use crate::support::packet::{Packet, Verdict};
use crate::support::world::{libreswan, strongswan};

const BOTH: &str = "
[[connection]]
name = \"primary\"
when-down = \"block\"
[[connection]]
name = \"backup\"
when-down = \"block\"
";

const BACKUP: &str = "[[connection]]\nname = \"backup\"\nwhen-down = \"block\"\n";

impl Gateway {
    /// The tunnel of a connection between the same two networks, by either daemon.
    fn link(&self, name: &str, peer: &str, reqid: u32) -> Tunnel {
        let [local, remote] = self.networks();
        let call = match reqid {
            0..16384 => strongswan(name, reqid, &local, &remote),
            _ => libreswan(name, reqid, &local, &remote),
        };
        call.with("PLUTO_PEER_ID", peer).tunnel()
    }

    /// Brings tunnels up, and down again.
    fn pass(&mut self, tunnels: &[&Tunnel]) {
        self.up_all(tunnels.iter().copied());
        for tunnel in tunnels {
            assert_eq!(self.down(tunnel), TunnelOutcome::Closed);
        }
    }

    fn start_with(&mut self, settings: &str) {
        self.set_file(settings);
        self.start().expect("a start");
    }

    /// The verdict on a packet unencrypted from one network to this address in the other.
    fn unencrypted(&mut self, to: &str) -> Verdict {
        let [from, to] = ["10.1.0.9", to].map(|address| self.in_family(address));
        let packet = Packet::between(&from, &to).tcp(40000, 80);
        self.verdict(&packet.in_by("lan0").out_by("w0"))
    }

    fn is_blocked(&mut self) -> bool {
        self.unencrypted("10.2.0.7") == Verdict::Drop
    }

    fn unblock_by(&mut self, name: &str) {
        let blocked = Blocked::By {
            connection: ConnectionName::new(name.as_bytes()).expect("a name"),
            network: None,
        };
        self.unblock(&blocked).expect("unblocking");
    }
}

#[test]
fn a_pair_stays_blocked_until_the_last_connection_that_asks_leaves_the_file() {
    for reqids in [[1, 2], [16389, 16393], [1, 1]] {
        for turned in [false, true] {
            for mut gateway in gateways(BOTH) {
                let [primary, backup] = [("primary", reqids[0]), ("backup", reqids[1])]
                    .map(|(name, reqid)| gateway.link(name, "peer", reqid));
                match turned {
                    false => gateway.pass(&[&primary, &backup]),
                    true => gateway.pass(&[&backup, &primary]),
                }
                assert!(gateway.is_blocked());
                gateway.start_with(BACKUP);
                assert!(gateway.is_blocked(), "backup asks for it, {reqids:?}");
                gateway.start_with("");
                assert!(!gateway.is_blocked());
                assert!(gateway.is_forgotten());
            }
        }
    }
}

#[test]
fn a_pair_stays_blocked_while_one_connection_has_leave_and_another_asks() {
    for mut gateway in gateways(BOTH) {
        let [primary, backup] = [gateway.link("primary", "peer", 1), gateway.link("backup", "peer", 2)];
        gateway.up(&backup);
        gateway.up(&primary);
        gateway.start_with(&format!(
            "{BACKUP}[[connection]]\nname = \"primary\"\nwhen-down = \"leave\"\n"
        ));
        assert!(gateway.is_blocked());
        gateway.down(&backup);
        gateway.start_with(&format!(
            "{BACKUP}[[connection]]\nname = \"primary\"\nwhen-down = \"leave\"\n"
        ));
        assert!(gateway.is_blocked());
        gateway.down(&primary);
        assert!(gateway.is_blocked());
    }
}

#[test]
fn a_pair_stays_blocked_for_a_peer_whose_identity_is_asked_for_still() {
    let file = |peer: &str| format!("[[connection]]\npeer-id = \"{peer}\"\nwhen-down = \"block\"\n");
    for peers in [["west", "east"], ["east", "west"]] {
        for mut gateway in gateways(&format!("{}{}", file("west"), file("east"))) {
            // One connection, whose peer has another identity by now.
            for peer in peers {
                let link = gateway.link("net", peer, 1);
                gateway.pass(&[&link]);
            }
            gateway.start_with(&file("west"));
            assert!(gateway.is_blocked(), "{peers:?}");
            gateway.start_with(&file("another"));
            assert!(!gateway.is_blocked());
        }
    }
}

#[test]
fn only_what_all_who_ask_let_by_passes_unencrypted() {
    let open = &format!("{BOTH}bypass = [\"10.2.0.0/28\"]\n");
    for order in [["primary", "backup"], ["backup", "primary"]] {
        for mut gateway in gateways(open) {
            let links = order.map(|name| gateway.link(name, "peer", u32::try_from(name.len()).expect("small")));
            gateway.pass(&[&links[0], &links[1]]);
            assert_eq!(gateway.unencrypted("10.2.0.7"), Verdict::Drop, "{order:?}");
            gateway.start_with(open);
            assert_eq!(gateway.unencrypted("10.2.0.7"), Verdict::Drop, "{order:?}");
            // The `bypass` of the only one that asks.
            gateway.start_with(&open.replacen("block", "leave", 1));
            assert_eq!(gateway.unencrypted("10.2.0.7"), Verdict::Policy, "{order:?}");
            assert_eq!(gateway.unencrypted("10.2.0.99"), Verdict::Drop, "{order:?}");
            // Nothing any more: also while the tunnel is down.
            gateway.start_with(BACKUP);
            assert_eq!(gateway.unencrypted("10.2.0.7"), Verdict::Drop, "{order:?}");
        }
    }
}

#[test]
fn a_pair_that_the_settings_name_and_a_tunnel_brought_is_blocked_while_either_asks() {
    const NAMED: &str = "
[[connection]]
name = \"primary\"
when-down = \"block\"
between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]
[[connection]]
name = \"backup\"
when-down = \"block\"
";
    for mut gateway in gateways(NAMED) {
        gateway.start_with(NAMED);
        let backup = gateway.link("backup", "peer", 1);
        gateway.pass(&[&backup]);
        gateway.start_with(BACKUP);
        assert!(gateway.is_blocked());
        gateway.start_with(NAMED);
        gateway.start_with(&NAMED.replace("[[connection]]\nname = \"backup\"\nwhen-down = \"block\"\n", ""));
        assert!(gateway.is_blocked());
        gateway.start_with("");
        assert!(!gateway.is_blocked());
    }
}

#[test]
fn unblock_knows_the_name_of_everybody_who_asks() {
    const NAMED: &str = "
[[connection]]
name = \"one\"
when-down = \"block\"
between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]
[[connection]]
name = \"two*\"
when-down = \"block\"
between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]
";
    for name in ["primary", "backup"] {
        for mut gateway in gateways(BOTH) {
            let [primary, backup] = [gateway.link("primary", "peer", 1), gateway.link("backup", "peer", 2)];
            gateway.pass(&[&primary, &backup]);
            gateway.unblock_by("another");
            assert!(gateway.is_blocked());
            gateway.unblock_by(name);
            assert!(!gateway.is_blocked(), "{name}");
            assert!(gateway.is_forgotten());
        }
    }
    for name in ["one", "two-b"] {
        for mut gateway in gateways(NAMED) {
            gateway.start_with(NAMED);
            assert!(gateway.is_blocked());
            gateway.unblock_by(name);
            assert!(!gateway.is_blocked(), "{name}");
        }
    }
}

#[test]
fn an_up_that_asks_for_what_is_blocked_already_writes_no_rule() {
    for mut gateway in gateways(BOTH) {
        let primary = gateway.link("primary", "peer", 1);
        gateway.up(&primary);
        let restores = gateway.tables.restores();
        gateway.up(&primary);
        assert_eq!(gateway.tables.restores(), restores);
    }
}

#[test]
fn a_pair_is_blocked_while_one_of_those_asks_who_have_a_tunnel_up() {
    const FILE: &str = "[[connection]]\npeer-id = \"anna\"\nwhen-down = \"block\"\n";
    for peers in [["anna", "eve"], ["eve", "anna"]] {
        for mut gateway in gateways(FILE) {
            let links = peers.map(|peer| gateway.link("net", peer, 1));
            links.iter().for_each(|link| {
                gateway.up(link);
            });
            assert!(gateway.is_blocked());
            for link in &links {
                gateway.down(link);
                gateway.start_with(FILE);
                assert!(gateway.is_blocked(), "{peers:?}");
            }
            gateway.start_with("");
            assert!(!gateway.is_blocked());
        }
    }
}

#[test]
fn of_very_many_who_ask_the_first_are_recorded_and_nothing_is_lifted_unasked() {
    const FILE: &str = "[tunnel]\nwhen-down = \"block\"\n";
    let mut gateway = gateways(FILE).next().expect("a gateway");
    for number in 0..70 {
        let link = gateway.link("net", &format!("peer-{number}"), 1);
        gateway.pass(&[&link]);
    }
    gateway.start_with("[[connection]]\npeer-id = \"peer-69\"\nwhen-down = \"block\"\n");
    assert!(gateway.is_blocked());
    gateway.unblock_by("net");
    assert!(!gateway.is_blocked());
}
