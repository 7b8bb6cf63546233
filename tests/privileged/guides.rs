//! The drawings in docs/packet-flow.md are what `explain` draws.

use pluto_updown::netfilter::Backend;

use crate::support::captures::find_call;
use crate::support::namespace::Namespace;

const PAGE: &str = include_str!("../../docs/packet-flow.md");

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_page_draws_what_the_program_draws() {
    for (connection, verb) in [("net-net", "up-client"), ("host-host", "up-host"), ("vti", "up-client")] {
        let machine = Namespace::new(Backend::Nft);
        let up = find_call("libreswan-5.2", connection, verb);
        machine.settings("");
        machine.hook().expect_success(&up);
        let text = machine.hook().operate(&["explain", connection, "--diagram"]).out_text();
        let from = text.find("OUT OF THE TUNNEL").expect("a drawing");
        assert!(
            PAGE.contains(text[from..].trim_end()),
            "docs/packet-flow.md should have:\n{}",
            &text[from..]
        );
    }
}
