//! The settings files in `contrib/examples`: each is read, and does what it says.

use std::collections::BTreeSet;
use std::fs;

use pluto_updown::net::Family;
use pluto_updown::settings::Settings;

use super::page::{differences, of_table, tunnels_of};

const TABLE: &str = include_str!("examples.txt");

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/examples");

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemons/scenarios");

/// Has every key at its default, which is the business of another test.
const DEFAULTS: &str = "pluto-updown.toml";

fn example_text(name: &str) -> String {
    fs::read_to_string(format!("{FOLDER}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_example_has_its_packets() {
    let files = fs::read_dir(FOLDER).expect("a folder");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
    let examples: BTreeSet<_> = names
        .filter(|name| name.ends_with(".toml") && name != DEFAULTS)
        .collect();
    let blocks: BTreeSet<_> = of_table(TABLE).iter().map(|block| block.sentence.to_owned()).collect();
    assert_eq!(blocks, examples);
}

#[test]
fn every_example_does_what_it_says() {
    let tunnels = tunnels_of(TABLE);
    let mut wrong = Vec::new();
    for block in of_table(TABLE) {
        for family in Family::ALL {
            wrong.extend(differences(
                &block,
                family,
                &tunnels,
                Some(&example_text(block.sentence)),
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_end_of_a_pair_has_settings_that_can_be_written_and_is_brought_up_by_a_scenario() {
    let folders = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let entries = entries.map(|entry| entry.expect("an entry"));
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders
            .map(|entry| entry.file_name().into_string().expect("a name"))
            .collect()
    };
    let pairs = folders(&format!("{FOLDER}/pairs"));
    assert!(!pairs.is_empty());
    for pair in pairs {
        let scenario = format!("{SCENARIOS}/example-{pair}");
        let scenario = fs::read_to_string(&scenario).unwrap_or_else(|error| panic!("{scenario}: {error}"));
        for end in folders(&format!("{FOLDER}/pairs/{pair}")) {
            let settings = example_text(&format!("pairs/{pair}/{end}/pluto-updown.toml"));
            Settings::parse(&settings).unwrap_or_else(|error| panic!("{pair}/{end}: {error}"));
            assert!(
                scenario.contains(&format!("\nexample {pair}/{end} on ")),
                "{pair}/{end}"
            );
        }
    }
}

#[test]
fn what_an_example_has_in_comments_can_be_written() {
    let text = example_text("block-new-from-tunnels.toml");
    let (_, commented) = text.split_once("more:\n#\n").expect("an entry in comments");
    let entry: String = commented
        .lines()
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    Settings::parse(&format!("{text}{entry}")).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_readme_shows_can_be_written_and_every_example_is_named_in_the_documents() {
    let readme = include_str!("../../../README.md");
    let chapter = include_str!("../../../docs/freeswan-chapter.md");
    let shown: Vec<_> = readme
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("an end"))
        .collect();
    assert!(shown.len() >= 3);
    let guides = [
        include_str!("../../../docs/changing-over.md"),
        include_str!("../../../docs/cloud-gateways.md"),
        include_str!("../../../docs/road-warriors.md"),
    ];
    let of_guides = guides.iter().flat_map(|page| page.split("```toml\n").skip(1));
    let of_guides = of_guides.map(|rest| rest.split("```").next().expect("an end"));
    for text in shown.into_iter().chain(of_guides) {
        Settings::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
    for block in of_table(TABLE) {
        let link = format!("(contrib/examples/{})", block.sentence);
        assert!(
            readme.contains(&link) || chapter.contains(&format!("(../{}", &link[1..])),
            "{link}"
        );
    }
}
