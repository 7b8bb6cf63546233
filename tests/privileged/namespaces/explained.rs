//! `explain` on real tables: it finds its rules in what the kernel lists, and says so where it does not.

use pluto_updown::net::Family;

use crate::support::captures::strongswan_up;
use crate::support::namespace::{Namespace, VARIANTS};

const SETTINGS: &str = "[[connection]]\nname = \"net-net\"\nallow = [\"tcp/22\", \"ping\"]\n";

/// A packet of the tunnel, which it allows or not.
fn ask(service: &str) -> [&str; 4] {
    ["explain", "10.2.0.7", "10.1.0.9", service]
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_rule_that_decides_is_found_with_its_counter_and_its_line() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.settings(SETTINGS);
        machine.hook().expect_success(&strongswan_up());
        for (service, verdict) in [
            ("22", "PASSES: "),
            ("ping", "PASSES: "),
            ("443", "DROPPED by pluto-updown: "),
        ] {
            let ending = machine.hook().operate(&ask(service));
            let text = ending.out_text();
            assert_eq!(ending.code, Some(0), "{backend} {service}: {text}");
            assert!(text.starts_with(verdict), "{backend} {service}: {text}");
            // Folded where the path is long.
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("(0 packets)"), "{backend} {service}: {text}");
            assert!(
                words.contains(":3 [[connection]] name = \"net-net\": allow ="),
                "{backend}: {text}"
            );
        }
        // Another rule of the administrator's, and the policy.
        machine.tables(
            Family::Ipv4,
            &["-A", "FORWARD", "-s", "10.8.0.0/16", "-p", "tcp", "-j", "REJECT"],
        );
        machine.tables(Family::Ipv4, &["-P", "FORWARD", "DROP"]);
        let text = machine
            .hook()
            .operate(&["explain", "10.8.0.1", "10.1.0.9", "443"])
            .out_text();
        for part in [
            "not decided here: your FORWARD rules decide",
            "own rule FORWARD: -s 10.8.0.0/16 -p tcp -j REJECT",
            "policy   FORWARD DROP",
        ] {
            assert!(text.contains(part), "{backend}: {text}");
        }
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn no_packet_passes_by_the_record_alone_after_a_flush_or_behind_a_foreign_drop() {
    for backend in VARIANTS {
        for change in [&["-F"][..], &["-I", "FORWARD", "-s", "10.2.0.0/24", "-j", "DROP"]] {
            let machine = Namespace::new(backend);
            machine.settings(SETTINGS);
            machine.hook().expect_success(&strongswan_up());
            machine.tables(Family::Ipv4, change);
            let ending = machine.hook().operate(&ask("22"));
            let text = ending.out_text();
            assert_eq!(ending.code, Some(1), "{backend} {change:?}: {text}");
            assert!(
                text.starts_with("WARNING: the kernel differs"),
                "{backend} {change:?}: {text}"
            );
            assert!(!text.contains("\nPASSES: "), "{backend} {change:?}: {text}");
            let is_dropped = text.contains("\nDROPPED by a rule of yours before the rules of pluto-updown");
            assert_eq!(is_dropped, change.len() > 1, "{backend} {change:?}: {text}");
        }
    }
}
