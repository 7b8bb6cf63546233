//! The table: what the scripts get wrong, and what we do instead.

use super::Difference;
use crate::side_by_side::calls::{Family, Version};
use crate::side_by_side::twins::Finding;
use crate::side_by_side::world::{DefaultRoute, Site};
use crate::support::binary::Call;

const BOTH: &[Version] = &[Version::V4_10, Version::V5_2];

/// The routes to the remote network: itself, one address, and the parts of everything.
const ROUTES: &[&str] = &[
    "route v4 unicast {PLUTO_PEER_CLIENT} *",
    "route v4 unicast {PLUTO_PEER_CLIENT_NET} *",
    "route v4 unicast 0.0.0.0/1 *",
    "route v4 unicast 128.0.0.0/1 *",
    "route v6 unicast {PLUTO_PEER_CLIENT} *",
    "route v6 unicast {PLUTO_PEER_CLIENT_NET} *",
    "route v6 unicast 2000::/3 *",
    "route v6 unicast ::/1 *",
    "route v6 unicast 8000::/1 *",
];

pub const TABLE: &[Difference] = &[
    Difference {
        name: "no route to the remote network",
        versions: BOTH,
        concerns: |finding| begins(finding, "route") && source(&finding.call).is_none() && leads_nowhere(finding),
        stock: &[],
        program: ROUTES,
        why: "The script adds the missing route where the kernel answers \"No route to host\". It does not where the \
              kernel answers \"Network is unreachable\", as without a default route. pluto-updown adds it in both \
              cases, because without a route no packet meets the IPsec policy.",
    },
    Difference {
        name: "neighbour discovery proxy",
        versions: BOTH,
        concerns: |finding| begins(finding, "route") && one_address(&finding.call) == Some(Family::V6),
        stock: &[],
        program: &[
            "proxy v6 {PLUTO_PEER_CLIENT_NET} dev *",
            "route v6 unicast {PLUTO_PEER_CLIENT_NET} *",
        ],
        why: "The script takes the third word of `ip route get` for the interface, which is wrong for IPv6. So it never \
              answers for a remote address on our own LAN. pluto-updown answers as in IPv4, because the LAN finds the \
              road warrior in no other way.",
    },
    Difference {
        name: "proxy neighbour left behind",
        versions: BOTH,
        concerns: |finding| begins(finding, "unroute") && one_address(&finding.call) == Some(Family::V4),
        stock: &[
            "proxy v4 {PLUTO_PEER_CLIENT_NET} dev *",
            "route v4 unicast {PLUTO_PEER_CLIENT_NET} *",
        ],
        program: &[],
        why: "The script deletes neither the route to a remote address on our own LAN nor the proxy neighbour, because \
              only `route` found out that they were needed. pluto-updown deletes what it has added, because the LAN \
              would go on sending here.",
    },
    Difference {
        name: "half of a default route left behind",
        versions: BOTH,
        concerns: |finding| begins(finding, "unroute") && finding.call.get("PLUTO_PEER_CLIENT") == "0.0.0.0/0",
        stock: &[
            "route v4 unicast 128.0.0.0/1 *",
            "address v4 {PLUTO_MY_SOURCEIP}/32 dev lo *",
            "route v4 local {PLUTO_MY_SOURCEIP} dev lo *",
        ],
        program: &[],
        why: "If somebody has deleted the first half of the route to everything, the script deletes neither the second \
              half nor its source address. pluto-updown deletes each by itself, because half of the Internet would stay \
              unreachable.",
    },
    Difference {
        name: "what another connection had added",
        versions: BOTH,
        concerns: |finding| begins(finding, "unroute") && finding.case.starts_with("a peer's network, the last"),
        stock: &[
            "address v4 10.9.0.77/32 dev lo *",
            "route v4 local 10.9.0.77 dev lo *",
            "route v4 unicast {PLUTO_PEER_CLIENT} *",
        ],
        program: &[],
        why: "The daemon names in `unroute` whichever connection ends last, and the script deletes what that one would \
              have added. If that has another source address, the first one's stays; if it has none, the route stays, \
              too. pluto-updown deletes what it has added.",
    },
    Difference {
        name: "route in place of an unreachable one left behind",
        versions: BOTH,
        concerns: |finding| begins(finding, "unroute") && finding.world.more.contains("unreachable"),
        stock: ROUTES,
        program: &[],
        why: "The script adds a route because there is \"No route to host\". At `unroute` the route is there, so the \
              script finds none missing and leaves it. pluto-updown deletes it, because it has added it.",
    },
    Difference {
        name: "peer's own route taken from another connection",
        versions: BOTH,
        concerns: |finding| begins(finding, "unroute") && is_marked(&finding.call),
        stock: &[],
        program: &["route v4 unicast {PLUTO_PEER} dev w0 table 50 *"],
        why: "With two connections to one peer by an XFRM interface, the script deletes the peer's route in table 50 \
              when the first one ends. pluto-updown keeps it until the last has ended, because the other's encrypted \
              packets would loop.",
    },
    Difference {
        name: "peer's own route left behind",
        versions: BOTH,
        concerns: |finding| {
            begins(finding, "unroute") && is_marked(&finding.call) && one_address(&finding.call) == Some(Family::V4)
        },
        stock: &["route v4 unicast {PLUTO_PEER} dev w0 table 50 *"],
        program: &[],
        why: "The script looks for the interface of the peer's route where the tunnel's own route still leads, and \
              deletes nothing. pluto-updown deletes what it has added.",
    },
    Difference {
        name: "clients of another family than the hosts, 4.x",
        versions: &[Version::V4_10],
        concerns: |finding| is_mixed(&finding.call),
        stock: &[
            "exit 1",
            "address v6 {PLUTO_MY_SOURCEIP}/32 dev *",
            "route v6 local {PLUTO_MY_SOURCEIP} dev *",
            "route v6 unicast 2001:db8::/32 dev *",
        ],
        program: &[
            "exit 0",
            "address v4 {PLUTO_MY_SOURCEIP}/32 dev *",
            "route v4 local {PLUTO_MY_SOURCEIP} dev *",
            "address v6 {PLUTO_MY_SOURCEIP}/128 dev *",
            "route v6 local {PLUTO_MY_SOURCEIP} dev *",
            "route v6 unicast {PLUTO_MY_SOURCEIP} dev *",
            "proxy v4 {PLUTO_PEER_CLIENT_NET} dev *",
            "proxy v6 {PLUTO_PEER_CLIENT_NET} dev *",
            "route v4 unicast {PLUTO_PEER_CLIENT} *",
            "route v4 unicast {PLUTO_PEER_CLIENT_NET} *",
            "route v4 unicast 0.0.0.0/1 *",
            "route v4 unicast 128.0.0.0/1 *",
            "route v6 unicast {PLUTO_PEER_CLIENT} *",
            "route v6 unicast {PLUTO_PEER_CLIENT_NET} *",
            "route v6 unicast 2000::/3 *",
        ],
        why: "libreswan 4.x passes the hosts' family only, and its script applies that to the clients' addresses. It \
              adds no route, and an IPv6 source address with a prefix of 32 bits, which claims a whole provider's \
              network. pluto-updown goes by the clients' addresses.",
    },
    Difference {
        name: "clients of another family than the hosts, by an XFRM interface",
        versions: &[Version::V5_2],
        concerns: |finding| begins(finding, "route") && is_mixed(&finding.call) && is_marked(&finding.call),
        stock: &[
            "exit 1",
            "route v4 unicast {PLUTO_PEER} dev w0 table 50 *",
            "route v6 unicast {PLUTO_PEER} dev w0 table 50 *",
        ],
        program: &["exit 0"],
        why: "The script tries a rule for the clients' network in the hosts' family, fails, and IPv6 clients lose their \
              tunnel. pluto-updown adds no rule, because the peer's address cannot lie in a network of the other \
              family.",
    },
    Difference {
        name: "unknown family",
        versions: BOTH,
        concerns: |finding| finding.call.get("PLUTO_CONN_ADDRFAMILY") == "ipx",
        stock: &["exit 1"],
        program: &["exit 0", "route v4 unicast {PLUTO_PEER_CLIENT} *"],
        why: "The script refuses a family that it does not know. pluto-updown reads the family from the addresses, \
              because the meaning of the daemon's variable differs between versions.",
    },
    Difference {
        name: "exit status",
        versions: BOTH,
        concerns: |finding| begins(finding, "route"),
        stock: &["exit 1", "exit 2"],
        program: &["exit 2", "exit 1"],
        why: "The script exits with 1 on unknown arguments and with 2 where `ip` fails. pluto-updown exits with 2 on \
              wrong arguments and with 1 where the kernel refuses. The daemon takes both for a failure.",
    },
    Difference {
        name: "no next hop",
        versions: BOTH,
        concerns: |finding| begins(finding, "route") && !has(&finding.call, "PLUTO_NEXT_HOP"),
        stock: &[],
        program: ROUTES,
        why: "The script writes `via` without an address and fails where the daemon names no next hop. pluto-updown \
              adds a route by the interface alone.",
    },
    Difference {
        name: "source address of a route that failed",
        versions: &[Version::V5_2],
        concerns: |finding| begins(finding, "route") && finding.case == "no way to the next hop",
        stock: &[
            "address v4 {PLUTO_MY_SOURCEIP}/32 dev lo *",
            "route v4 local {PLUTO_MY_SOURCEIP} dev lo *",
        ],
        program: &[],
        why: "The script leaves the source address where the route with it fails. pluto-updown undoes the steps of a \
              change that failed.",
    },
    Difference {
        name: "ordinary interface",
        versions: &[Version::V4_10],
        concerns: |finding| {
            let by_interface = ["by an XFRM interface", "device and new", "device, mark"];
            source(&finding.call).is_some()
                && (begins(finding, "up") || by_interface.iter().any(|what| finding.case.contains(what)))
        },
        stock: &[
            "address v4 {PLUTO_MY_SOURCEIP}/32 dev ipsec5 *",
            "route v4 local {PLUTO_MY_SOURCEIP} dev ipsec5 *",
            "address v6 {PLUTO_MY_SOURCEIP}/128 dev ipsec5 *",
            "route v6 local {PLUTO_MY_SOURCEIP} dev ipsec5 *",
            "route v6 unicast {PLUTO_MY_SOURCEIP} dev ipsec5 *",
            // The address then comes with `route`, which can fail: on Ethernet, which stands in for the interface here, the
            // kernel refuses a source address while it looks for others that have it (RFC 4862, section 5.4).
            "exit 0",
            "route v6 unicast *",
            "rule v6 100: *",
        ],
        program: &["exit 1"],
        why: "The script takes any interface that the daemon names. pluto-updown does nothing at `up` for an interface \
              that is no VTI, XFRM or KLIPS interface, because rules for it would accept unencrypted packets.",
    },
    Difference {
        name: "source address that is first known at up",
        versions: &[Version::V5_2],
        concerns: |finding| begins(finding, "up") && source(&finding.call).is_some(),
        stock: &[],
        program: ROUTES,
        why: "The script of 5.2 adds no route at `up`, although libreswan 5.0 and 5.1 pass the source address only \
              then. pluto-updown adds the route at `up` if `route` did not, because packets with another source match \
              no IPsec policy.",
    },
    Difference {
        name: "replaced route lost",
        versions: BOTH,
        concerns: |finding| begins(finding, "unroute") && finding.case.starts_with("peer's network is "),
        stock: &[],
        program: &[
            "route v4 unicast {PLUTO_PEER_CLIENT} via *",
            "route v4 blackhole {PLUTO_PEER_CLIENT} *",
            "route v4 prohibit {PLUTO_PEER_CLIENT} *",
            "route v4 unreachable {PLUTO_PEER_CLIENT} *",
            "route v6 unreachable {PLUTO_PEER_CLIENT} *",
        ],
        why: "The script deletes its route and leaves nothing in its place. pluto-updown restores the route that its \
              own has replaced, because without it packets would leave unencrypted.",
    },
];

/// Whether a difference begins with this operation.
fn begins(finding: &Finding, operation: &str) -> bool {
    let verb = finding.call.get("PLUTO_VERB");
    verb.strip_prefix(operation).is_some_and(|scope| scope.starts_with('-'))
}

fn has(call: &Call, name: &str) -> bool {
    call.variables.contains_key(std::ffi::OsStr::new(name)) && !call.get(name).is_empty()
}

fn source(call: &Call) -> Option<&str> {
    has(call, "PLUTO_MY_SOURCEIP").then(|| call.get("PLUTO_MY_SOURCEIP"))
}

fn client_family(call: &Call) -> Family {
    Family::from_address(call.get("PLUTO_PEER_CLIENT"))
}

/// The family, if the remote network is one address.
fn one_address(call: &Call) -> Option<Family> {
    let family = client_family(call);
    let length = match family {
        Family::V4 => "/32",
        Family::V6 => "/128",
    };
    call.get("PLUTO_PEER_CLIENT").ends_with(length).then_some(family)
}

fn is_mixed(call: &Call) -> bool {
    Family::from_address(call.get("PLUTO_ME")) != client_family(call)
}

fn is_marked(call: &Call) -> bool {
    has(call, "PLUTO_XFRMI_FWMARK")
}

/// Whether there is no default route of the clients' family.
fn leads_nowhere(finding: &Finding) -> bool {
    match (finding.world.default_route, finding.world.site) {
        (DefaultRoute::Absent, _) => true,
        (DefaultRoute::Present, Site::West | Site::East) => client_family(&finding.call) == Family::V6,
        (DefaultRoute::Present, Site::Ethernet | Site::PointToPoint) => false,
    }
}
