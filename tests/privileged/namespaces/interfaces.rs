//! XFRM interfaces that strongSwan names by their number, and that do not exist at `up`.

use super::prune::add_policies;
use crate::support::captures::strongswan_up;
use crate::support::namespace::{Namespace, VARIANTS};

/// The rules as iptables lists them. That those of the interface come when it is created the emulated tables test: few kernels of build
/// machines have such interfaces.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_rules_of_a_tunnel_without_its_interface_are_as_recorded() {
    let up = strongswan_up()
        .with("PLUTO_IF_ID_IN", "42")
        .with("PLUTO_IF_ID_OUT", "42");
    for backend in VARIANTS {
        for (restriction, note) in [
            ("allow = \"none\"\nlog = \"denied\"", "are dropped by their addresses"),
            ("allow = \"replies\"", "your own rules decide"),
        ] {
            let machine = Namespace::new(backend);
            let (before, hook) = (machine.listing(), machine.hook());
            machine.settings(&format!("[tunnel]\n{restriction}\nnat = \"leave\"\n"));
            hook.expect_success(&up);
            add_policies(&machine, &up);
            let status = hook.operate(&["status"]);
            let text = status.out_text().split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(status.code, Some(0), "{backend}: {text}");
            assert!(text.contains(note), "{backend}: {text}");
            for command in ["restore", "start"] {
                let ending = hook.operate(&[command]);
                assert!(ending.out_text().starts_with("nothing to "), "{backend}: {ending:?}");
            }
            hook.expect_success(&up.clone().opposite());
            machine.assert_as_before(&before);
        }
    }
}
