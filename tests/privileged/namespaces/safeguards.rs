//! Commands that would remove more than whoever typed them may expect.

use pluto_updown::netfilter::Backend;

use crate::support::binary::{Ending, Hook};
use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::{Namespace, VARIANTS};

const SETTINGS: &str = "[gateway]\nike = \"any\"\n[[connection]]\nname = \"net-net\"\nallow = \"replies\"\nwhen-down = \"block\"\n\
    between = [[\"10.1.0.0/24\", \"10.2.0.0/24\"]]\n";

/// A gateway whose settings are applied, with a restricted tunnel up.
fn gateway(backend: Backend) -> Namespace {
    let machine = Namespace::new(backend);
    machine.settings(SETTINGS);
    assert_eq!(machine.hook().operate(&["start"]).code, Some(0));
    machine.hook().expect_success(&strongswan_up());
    machine
}

/// The same gateway's program, without `--config`.
fn without_settings(machine: &Namespace) -> Hook {
    Hook::new()
        .through(machine.entry())
        .option("--state-dir", machine.state())
        .option("--programs", machine.programs())
        .word("--no-routes")
}

fn refused(ending: &Ending, named: &[&str]) {
    let text = ending.err_text();
    assert_eq!((ending.code, ending.out_text().as_str()), (Some(2), ""), "{text}");
    for name in named {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn start_without_the_settings_file_opens_nothing_unless_it_is_forced() {
    for backend in VARIANTS {
        let machine = gateway(backend);
        let before = machine.everything();
        let hook = without_settings(&machine);
        for words in [&["start"][..], &["start", "--boot"]] {
            refused(
                &hook.operate(words),
                &[
                    "/etc/pluto-updown.toml is not there",
                    "1 tunnel would become \"all\", gateway rules removed, 1 pair unblocked",
                    "--config",
                    "--force",
                ],
            );
            assert_eq!(machine.everything(), before, "{backend} {words:?}");
        }
        // It only shows, whatever it shows.
        let shown = hook.operate(&["start", "--dry-run"]);
        assert_eq!(shown.code, Some(0));
        assert!(
            shown
                .out_text()
                .contains("# 1 tunnel: allow replies -> all, when-down block -> leave\n"),
            "{}",
            shown.out_text()
        );
        assert!(!shown.out_text().contains("*filter"), "{}", shown.out_text());
        assert!(hook.operate(&["start", "-n", "-v"]).out_text().contains("*filter"));
        assert_eq!(machine.everything(), before, "{backend}");
        assert_eq!(hook.operate(&["start", "--force"]).code, Some(0));
        assert_ne!(machine.everything(), before, "{backend}");
        // There is nothing more to open.
        assert_eq!(hook.operate(&["start"]).code, Some(0));
    }
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn start_without_a_settings_file_is_no_matter_where_nothing_is_restricted() {
    let machine = Namespace::new(Backend::Nft);
    machine.settings("");
    machine.hook().expect_success(&libreswan_up());
    let ending = without_settings(&machine).operate(&["start"]);
    assert_eq!(
        (ending.code, ending.out_text().as_str()),
        (Some(0), "nothing to change: 1 tunnel\n")
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn flush_asks_while_tunnels_are_up_and_says_how_they_get_rules_again() {
    for backend in VARIANTS {
        let machine = gateway(backend);
        let before = machine.everything();
        for words in [&["flush"][..], &["flush", "--force"]] {
            refused(
                &machine.hook().operate(words),
                &["1 tunnel up would lose all rules until re-initiated", "--yes"],
            );
            assert_eq!(machine.everything(), before, "{backend} {words:?}");
        }
        let ending = machine.hook().operate(&["flush", "--yes"]);
        let text = ending.out_text();
        assert_eq!(ending.code, Some(0), "{text}");
        for word in [
            "1 tunnel up lost all rules",
            "restore cannot",
            "swanctl --terminate",
            "ipsec auto --down",
        ] {
            assert!(text.contains(word), "{text}");
        }
        // Nothing is up any more that could lose anything.
        assert_eq!(machine.hook().operate(&["flush"]).code, Some(0));
    }
}

#[test]
#[ignore = "needs root, iptables and script: run by contrib/test"]
fn flush_asks_on_a_terminal_and_takes_anything_but_yes_for_no() {
    let machine = gateway(Backend::Nft);
    let before = machine.everything();
    let program = machine.hook().line(&["flush".into()]);
    let line: Vec<_> = program.iter().map(|word| word.to_str().expect("text")).collect();
    let asked = |answer: &str| {
        machine.shell(&format!(
            "(sleep 2; echo {answer}; sleep 2) | script --quiet --return --command '{}' /dev/null || true",
            line.join(" ")
        ))
    };
    for answer in ["", "n", "maybe"] {
        let text = asked(answer);
        assert!(
            text.contains("Remove everything? [y/N]") && text.contains("nothing removed"),
            "{text}"
        );
        assert_eq!(machine.everything(), before, "{answer}");
    }
    let text = asked("y");
    assert!(text.contains("1 tunnel up lost all rules"), "{text}");
    assert!(!machine.state().exists());
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn unblock_needs_a_name_or_all_and_names_what_it_unblocked() {
    for backend in VARIANTS {
        let machine = gateway(backend);
        let before = machine.everything();
        let ending = machine.hook().operate(&["unblock"]);
        assert_eq!(ending.code, Some(2));
        assert!(ending.err_text().contains("--all"), "{}", ending.err_text());
        assert_eq!(machine.everything(), before, "{backend}");
        let ending = machine.hook().operate(&["unblock", "nobody"]);
        let said = (ending.code, ending.out_text());
        assert_eq!(said, (Some(1), "nothing is blocked for \"nobody\"\n".to_owned()));
        let ending = machine.hook().operate(&["unblock", "--all"]);
        let said = (ending.code, ending.out_text());
        let lines = "unblocked 10.1.0.0/24 <-> 10.2.0.0/24 (net-net)\nnone left blocked\n".to_owned();
        assert_eq!(said, (Some(0), lines), "{backend}");
        let ending = machine.hook().operate(&["unblock", "--all"]);
        assert_eq!(
            (ending.code, ending.out_text().as_str()),
            (Some(0), "nothing is blocked\n")
        );
    }
}
