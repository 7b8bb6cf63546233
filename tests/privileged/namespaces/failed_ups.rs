//! Tunnels that are up without rules, with a kernel that knows whether they are up.

use std::fs;

use pluto_updown::net::Family;

use super::daemons::Daemon;
use super::prune::{add_policies, policies};
use crate::support::binary::{Call, Hook};
use crate::support::captures::{find_call, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS, order_independent};

/// A target that does not exist: the kernel refuses each tunnel's rules.
const REFUSED: &str = "[tunnel]\nchain = \"nowhere\"\nallow = \"replies\"\nnat = \"leave\"\non-error = \"continue\"\n";

const GOOD: &str = "[tunnel]\nallow = \"replies\"\nnat = \"leave\"\n";

fn ups() -> [Call; 2] {
    [strongswan_up(), find_call("strongswan-6.0.1", "v6", "up-client-v6")]
}

/// How many tunnels `status` says to be up without rules.
fn without_rules(hook: &Hook) -> usize {
    let text = hook.operate(&["status", "--json"]).out_text();
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    document["without_rules"].as_array().expect("a list").len()
}

fn start(hook: &Hook, words: &[&str]) -> String {
    hook.operate(&[&["start"], words].concat()).said()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn start_installs_what_an_up_could_not() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let hook = machine.hook();
        machine.settings(GOOD);
        for up in &ups() {
            add_policies(&machine, up);
            hook.expect_success(up);
        }
        let wanted = machine.listing().map(|text| order_independent(&text));
        ups().iter().for_each(|up| hook.expect_success(&up.clone().opposite()));
        machine.assert_as_before(&before);
        // The file is broken while the tunnels come up; charon keeps them.
        machine.settings("[tunnel]\nallow = \"everything\"\n");
        for up in &ups() {
            hook.call(up).assert_refused(2, &["allow"]);
        }
        assert_eq!(without_rules(&hook), 2, "{backend}");
        machine.settings(REFUSED);
        let ending = hook.operate(&["start"]);
        assert_eq!(ending.code, Some(1), "{backend}");
        assert_eq!(ending.err_text().matches("still up without rules").count(), 2);
        assert_eq!(without_rules(&hook), 2, "{backend}");
        machine.settings(GOOD);
        let text = start(&hook, &["--dry-run"]);
        assert_eq!(
            text.matches("up without rules, they would be installed").count(),
            2,
            "{text}"
        );
        assert_eq!(machine.listing(), before);
        let text = hook.operate(&["restore"]).out_text();
        assert_eq!(text.matches("needs you: ").count(), 2, "{text}");
        let text = start(&hook, &[]);
        assert!(
            text.ends_with("installed the rules of 2 tunnels up without\n"),
            "{text}"
        );
        assert_eq!(
            machine.listing().map(|text| order_independent(&text)),
            wanted,
            "{backend}"
        );
        assert_eq!(without_rules(&hook), 0);
        assert_eq!(hook.operate(&["status"]).code, Some(0));
        assert_eq!(
            hook.operate(&["restore"]).out_text(),
            "nothing to restore, all rules are loaded\n"
        );
        ups().iter().for_each(|up| hook.expect_success(&up.clone().opposite()));
        machine.assert_as_before(&before);
        assert!(!machine.state().exists());
    }
}

/// Rules of a tunnel that has ended would let in the next one with its reqid.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn one_that_the_kernel_has_no_policy_of_gets_none_and_prune_forgets_it() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        let before = machine.listing();
        let (hook, up) = (machine.hook(), strongswan_up());
        machine.settings(REFUSED);
        add_policies(&machine, &up);
        assert_eq!(hook.call(&up).code, Some(0));
        let stays = hook.operate(&["prune"]).out_text();
        assert_eq!((without_rules(&hook), stays.contains("net-net")), (1, false), "{stays}");
        policies(&machine, "delete", &up);
        machine.settings(GOOD);
        start(&hook, &[]);
        assert_eq!(machine.listing(), before, "{backend}");
        // A policy begins before its `up`, so a missing one is looked at for a minute more.
        assert_eq!(without_rules(&hook), 1);
        let text = hook.operate(&["prune"]).out_text();
        assert!(text.contains("net-net (10.2.0.0/24): was up without rules"), "{text}");
        assert_eq!(without_rules(&hook), 0);
        assert!(!machine.state().exists());
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn the_end_of_its_daemon_ends_it() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.settings(REFUSED);
        let mut daemon = Daemon::start(&machine, "charon");
        add_policies(&machine, &strongswan_up());
        daemon.calls_in_vain(&strongswan_up());
        assert_eq!(without_rules(&machine.hook()), 1);
        daemon.dies();
        // Not even with its policies still there: the next daemon has others.
        machine.settings(GOOD);
        start(&machine.hook(), &[]);
        assert_eq!(without_rules(&machine.hook()), 0);
        assert!(!machine.state().exists(), "{backend}");
    }
}

/// A reload of the firewall, or another tunnel's calls, change nothing of it; nor do they see it.
#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn it_is_noted_whatever_happens_to_other_tunnels() {
    for backend in VARIANTS {
        let machine = Namespace::new(backend);
        machine.settings(GOOD);
        let hook = machine.hook();
        let other = strongswan_up().of_tunnel(9).with("PLUTO_REQID", "9");
        hook.expect_success(&other);
        machine.settings(REFUSED);
        assert_eq!(hook.call(&strongswan_up()).code, Some(0));
        machine.settings(GOOD);
        machine.reload(Family::Ipv4);
        hook.operate(&["restore"]);
        hook.expect_success(&other.clone().opposite());
        assert_eq!(without_rules(&hook), 1, "{backend}");
        assert!(fs::read_dir(machine.state()).expect("a record").next().is_some());
        hook.expect_success(&strongswan_up().opposite());
        assert!(!machine.state().exists(), "{backend}");
    }
}
