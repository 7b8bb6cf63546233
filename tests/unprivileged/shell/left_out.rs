//! What `contrib/test` does not run without `--full` is listed in CONTRIBUTING.md, and every scenario can be read.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Reads a scenario as `contrib/daemons/run` does before it boots a machine, for each daemon.
fn read_scenarios(paths: &[&Path]) -> Output {
    let script = "set -euo pipefail; . contrib/common.bash; . contrib/daemons/scenario.bash
        for file; do
            for daemon in libreswan-4.10 libreswan-5.2 strongswan-5.9 strongswan-6.0; do read_scenario \"$file\" \"$daemon\"; done
        done";
    let mut command = Command::new("/bin/bash");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["-c", script, "run"]).args(paths).output().unwrap()
}

#[test]
fn every_scenario_can_be_read_for_every_daemon() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemons/scenarios");
    let paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    let read = read_scenarios(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8_lossy(&read.stdout);
    assert_eq!(text.matches("declare -g -a steps=([0]=").count(), 4 * paths.len());
}

#[test]
fn a_line_of_a_scenario_that_means_nothing_is_named_before_a_machine_boots() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (line, expected) in [
        ("pass client-west > client-east ping", "no such step"),
        ("wets holds 1", "no such step"),
        ("down net at noon", "no such step"),
        ("settings at west", "no such step"),
        ("example net-net on west", ""),
        ("example nothing on west", "with a folder of contrib/examples/pairs"),
        ("    left=west", "an option without a connection"),
    ] {
        std::fs::write(file.path(), format!("# A comment.\n\n{line}\n")).unwrap();
        let read = read_scenarios(&[file.path()]);
        let stderr = String::from_utf8_lossy(&read.stderr);
        assert_eq!(read.status.success(), expected.is_empty(), "{line}: {stderr}");
        assert!(
            expected.is_empty() || stderr.contains(", line 3: ") && stderr.contains(expected),
            "{line}: {stderr}"
        );
    }
}
