//! The IPsec policies that the kernel lists, beside those that `ip xfrm policy` has installed.

use pluto_updown::net::Mark;
use pluto_updown::netfilter::Backend;
use pluto_updown::netlink::xfrm::{XfrmDirection, XfrmPolicy, policies};

use crate::support::namespace::{Namespace, tool};

fn listed(namespace: &Namespace) -> Vec<XfrmPolicy> {
    let mut policies = namespace.inside(|| policies().unwrap());
    policies.sort_by_key(|policy| {
        (
            policy.direction,
            policy.source.to_string(),
            policy.destination.to_string(),
        )
    });
    policies
}

fn plain(direction: XfrmDirection, source: &str, destination: &str, reqids: &[u32]) -> XfrmPolicy {
    XfrmPolicy {
        direction,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 0,
        source_port: (0, 0),
        destination_port: (0, 0),
        reqids: reqids.to_vec(),
        mark: None,
        if_id: 0,
    }
}

#[test]
#[ignore = "needs root and ip xfrm: run by contrib/test"]
fn every_part_of_a_policy_is_read_as_ip_has_written_it() {
    let namespace = Namespace::bare(Backend::Nft);
    assert_eq!(listed(&namespace), []);
    namespace.shell(
        "ip xfrm policy add src 10.2.0.0/24 dst 10.1.0.0/24 dir in tmpl src 192.0.2.2 dst 192.0.2.1 proto esp reqid 16389 mode tunnel
         ip xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 proto udp sport 7 dport 53 dir out mark 0x5 mask 0xff \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto comp reqid 16390 mode tunnel tmpl proto esp reqid 16389 mode transport
         ip xfrm policy add src 2001:db8:2::/48 dst ::/0 dir fwd if_id 7 tmpl src 2001:db8::2 dst 2001:db8::1 proto ah reqid 4294967295 mode tunnel
         ip xfrm policy add src 0.0.0.0/0 dst 10.3.0.0/24 dir out tmpl proto esp reqid 0 mode transport
         ip xfrm policy add src 10.9.0.0/24 dst 10.9.0.1/32 dir in action block",
    );
    let expected = [
        plain(XfrmDirection::In, "10.2.0.0/24", "10.1.0.0/24", &[16389]),
        plain(XfrmDirection::In, "10.9.0.0/24", "10.9.0.1/32", &[]),
        plain(XfrmDirection::Out, "0.0.0.0/0", "10.3.0.0/24", &[0]),
        XfrmPolicy {
            protocol: 17,
            source_port: (7, 0xffff),
            destination_port: (53, 0xffff),
            mark: Some(Mark { value: 5, mask: 255 }),
            ..plain(XfrmDirection::Out, "10.1.0.0/24", "10.2.0.0/24", &[16390, 16389])
        },
        XfrmPolicy {
            if_id: 7,
            ..plain(XfrmDirection::Forward, "2001:db8:2::/48", "::/0", &[u32::MAX])
        },
    ];
    assert_eq!(listed(&namespace), expected);
}

/// More than the kernel puts into one datagram.
#[test]
#[ignore = "needs root and ip xfrm: run by contrib/test"]
fn a_thousand_policies_are_all_listed() {
    let namespace = Namespace::bare(Backend::Nft);
    let lines: String = (0..1000)
        .map(|number| {
            let (high, low) = (number / 250, number % 250);
            format!("xfrm policy add src 10.{high}.{low}.0/24 dst 10.99.0.0/24 dir in tmpl src 192.0.2.2 dst 192.0.2.1 proto esp reqid {number} mode tunnel\n")
        })
        .collect();
    let ip = tool("ip").display().to_string();
    namespace.run([&*ip, "-batch", "-"], &lines);
    let mut numbers: Vec<_> = listed(&namespace).iter().map(|policy| policy.reqids[0]).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}
