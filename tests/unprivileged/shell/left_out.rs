//! What `contrib/test` does not run without `--full` is listed in CONTRIBUTING.md.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../../../CONTRIBUTING.md");

fn printed(script: &str, option: &str, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(script).arg(option).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The daemons' families under which each scenario is run.
fn families(more: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in printed("contrib/daemons/run", "--list", more).lines() {
        let [daemon, _, scenario] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let family = daemon.split('-').next().unwrap().to_owned();
        let of_scenario = families.entry(scenario.to_owned()).or_default();
        if !of_scenario.contains(&family) {
            of_scenario.push(family);
        }
    }
    families.values_mut().for_each(|families| families.sort());
    families
}

#[test]
fn contributing_lists_the_scenarios_that_only_full_runs() {
    contributing_lists("contrib/daemons/run", "strongswan-5.9 with nft: ");
}

#[test]
fn contributing_lists_the_scripts_that_only_full_runs() {
    contributing_lists("contrib/test", "contrib/cloud-boot\n");
}

/// That the page has what a script prints as left out, with `one` in it and nothing else.
fn contributing_lists(script: &str, one: &str) {
    let list: String = printed(script, "--left-out", &[])
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    assert!(list.contains(one), "{list}");
    assert!(
        PAGE.contains(&format!("\n\n{list}\n")),
        "CONTRIBUTING.md should list:\n{list}"
    );
}

#[test]
fn every_scenario_is_run_without_full_under_each_family_of_daemons_that_it_is_for() {
    let usual = families(&[]);
    assert!(usual.len() > 40);
    assert_eq!(usual, families(&["--full"]));
}
