//! What `status` says while calls run, after one died, and about names.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fakes::Fakes;
use crate::support::binary::Ending;
use crate::support::captures::strongswan_up;

/// The kinds of all problems, with their severities.
fn problems(ending: &Ending) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&ending.out_text()).expect("JSON");
    assert_eq!(document["ok"], ending.code == Some(0), "{document}");
    let problems = document["problems"].as_array().expect("problems").iter();
    let word = |problem: &Value, key: &str| problem[key].as_str().expect("a word").to_owned();
    problems
        .map(|problem| (word(problem, "severity"), word(problem, "kind")))
        .collect()
}

#[test]
fn a_call_that_takes_long_is_not_one_that_died() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&strongswan_up());
    let running = fakes.path("running");
    let shown = running.display();
    fakes.restore_does(&format!(
        "touch {shown}; while [ -e {shown} ]; do sleep 0.02; done; exit 0"
    ));
    let hook = fakes.hook();
    let call = thread::spawn(move || hook.call(&strongswan_up().of_tunnel(9)));
    let begun = Instant::now();
    while !running.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the call does not run");
        thread::sleep(Duration::from_millis(10));
    }
    let ending = fakes.operate(&["status", "--json"]);
    assert_eq!(problems(&ending), [("note".to_owned(), "running".to_owned())]);
    let text = fakes.operate(&["status"]).out_text();
    assert!(text.starts_with("OK: 1 tunnel up"), "{text}");
    assert!(
        text.contains("a call has been running for more than a second"),
        "{text}"
    );
    fs::remove_file(&running).expect("ending the call");
    call.join().expect("the call").assert_done();

    // One that was killed at the same place.
    let mut fakes = Fakes::new();
    fakes.expect_success(&strongswan_up());
    fakes.restore_does("kill -9 $PPID; exit 1");
    assert_eq!(fakes.call_in_vain(&strongswan_up().of_tunnel(9)).signal, Some(9));
    let ending = fakes.operate(&["status", "--json"]);
    assert_eq!(problems(&ending), [("error".to_owned(), "interrupted".to_owned())]);
}

#[test]
fn every_name_that_no_tunnel_has_is_said_and_is_a_problem() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&strongswan_up());
    fakes.expect_success(&strongswan_up().of_tunnel(9));
    let ending = fakes.operate(&["status", "net-net", "tunnel-9"]);
    let text = ending.out_text();
    assert!(ending.code == Some(0) && text.starts_with("OK: 2 tunnels up"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    for (names, unknown) in [
        (&["nosuch"][..], &["\"nosuch\"\n"][..]),
        (
            &["net-net", "nosuch", "tunel-9"],
            &["\"nosuch\"", "\"tunel-9\"; did you mean \"tunnel-9\"?"],
        ),
        (&["--users", "nosuch"], &["\"nosuch\"\n"]),
    ] {
        let ending = fakes.operate(&[&["status"], names].concat());
        let text = ending.out_text();
        assert!(
            ending.code == Some(1) && text.starts_with("NOT OK: "),
            "{names:?}: {text}"
        );
        for name in unknown {
            assert!(
                text.contains(&format!("no tunnel is up for {name}")),
                "{names:?}: {text}"
            );
        }
        assert_eq!(text.matches("no tunnel is up for ").count(), unknown.len(), "{text}");
        let known = names.iter().filter(|name| text.contains(&format!("\n{name} "))).count();
        assert_eq!(known, names.iter().filter(|name| **name == "net-net").count(), "{text}");
    }
    let ending = fakes.operate(&["status", "--json", "nosuch"]);
    assert_eq!(problems(&ending), [("error".to_owned(), "expected".to_owned())]);
    let ending = fakes.operate(&["status", "--nagios", "nosuch"]);
    assert_eq!(ending.code, Some(2), "{}", ending.out_text());
}

#[test]
fn a_verdict_names_kinds_of_problems_and_does_not_count_lines() {
    let mut fakes = Fakes::new();
    fakes.expect_success(&strongswan_up());
    fakes.expect_success(&strongswan_up().of_tunnel(9));
    let lost = "*filter\n-D FORWARD -j PLUTO-FORWARD\n-F PLUTO-FI\n-F PLUTO-FO\nCOMMIT\n";
    fakes.tables[0].restore(lost).expect("a flush");
    let ending = fakes.operate(&["status"]);
    let text = ending.out_text();
    assert_eq!(ending.code, Some(1));
    let verdict = text.lines().next().expect("a verdict");
    assert!(
        verdict.starts_with("NOT OK: 1 missing jump, missing rules in 2 chains (2 tunnels up)"),
        "{text}"
    );
}
