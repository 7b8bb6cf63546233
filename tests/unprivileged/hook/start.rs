//! `start` at a boot, with settings that are good and that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::fakes::Fakes;
use crate::support::binary::Ending;

const GOOD: &str = "[gateway]\nike = \"any\"\nonly-ipsec = [\"eth7\"]\n";

/// A typo, and another interface that is to carry nothing but IPsec.
const BROKEN: &str = "[gateway]\nike = \"anny\"\nonly-ipsec = [\"eth8\"]\n";

fn machine() -> Fakes {
    let fakes = Fakes::new();
    fs::create_dir_all(fakes.path("root/var/lib")).expect("a folder");
    fakes
}

fn start(fakes: &mut Fakes, settings: &str, words: &[&str]) -> Ending {
    fakes.settings(settings);
    fakes.operate(&[&["start"], words].concat())
}

/// Another boot: neither rules nor a record.
fn boot(fakes: &mut Fakes) {
    fakes.tables = Default::default();
    let _ = fs::remove_dir_all(fakes.state());
}

fn drops_on(fakes: &Fakes, interface: &str) -> bool {
    let saved = fakes.tables[0].table(crate::support::emulator::Kind::Filter).save();
    saved.lines().any(|line| line.contains(&format!("-o {interface} ")))
}

#[test]
fn a_boot_with_broken_settings_has_those_that_were_good_last() {
    let mut fakes = machine();
    assert_eq!(start(&mut fakes, GOOD, &["--boot"]).code, Some(0));
    assert!(drops_on(&fakes, "eth7"));
    let folder = fakes.path("root/var/lib/pluto-updown");
    assert_eq!(
        fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777,
        0o700
    );
    for entry in fs::read_dir(&folder).expect("a folder") {
        let mode = entry
            .expect("an entry")
            .metadata()
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for _ in 0..2 {
        boot(&mut fakes);
        let ending = start(&mut fakes, BROKEN, &["--boot"]);
        assert_eq!(ending.code, Some(0));
        assert!(
            ending.err_text().contains("settings.toml:2: gateway.ike"),
            "{}",
            ending.err_text()
        );
        assert!(
            ending.err_text().contains("WARNING: applied the last valid settings"),
            "{}",
            ending.err_text()
        );
        assert!(drops_on(&fakes, "eth7") && !drops_on(&fakes, "eth8"));
    }
    // Another file of settings is another matter.
    boot(&mut fakes);
    fs::write(fakes.path("other.toml"), BROKEN).expect("settings");
    let hook = fakes
        .hook()
        .option("--root", fakes.path("root"))
        .option("--config", fakes.path("other.toml"));
    assert_eq!(hook.operate(&["start", "--boot"]).code, Some(2));
}

#[test]
fn a_first_boot_with_broken_settings_has_what_closes_in_them() {
    let mut fakes = machine();
    let ending = start(&mut fakes, BROKEN, &["--boot"]);
    assert_eq!(ending.code, Some(2));
    assert!(
        ending
            .err_text()
            .contains("installed only-ipsec of the file with the error"),
        "{}",
        ending.err_text()
    );
    assert!(drops_on(&fakes, "eth8"));
    boot(&mut fakes);
    let ending = start(&mut fakes, "[gateway]\nike = \"anny\"\n", &["--boot"]);
    assert_eq!(ending.code, Some(2));
    assert!(
        ending.err_text().contains("NOTHING is installed"),
        "{}",
        ending.err_text()
    );
}

#[test]
fn broken_settings_that_are_no_boots_change_nothing() {
    let mut fakes = machine();
    assert_eq!(start(&mut fakes, GOOD, &[]).code, Some(0));
    assert_eq!(start(&mut fakes, BROKEN, &[]).code, Some(2));
    assert!(drops_on(&fakes, "eth7") && !drops_on(&fakes, "eth8"));
}

#[test]
fn a_system_without_a_place_on_disk_gets_none() {
    let mut fakes = Fakes::new();
    let ending = start(&mut fakes, GOOD, &["--boot"]);
    assert_eq!((ending.code, ending.err_text().as_str()), (Some(0), ""));
    assert!(!fakes.path("root").exists());
}

#[test]
fn a_dry_run_names_the_gateways_keys_that_change() {
    let mut fakes = machine();
    let dry = |fakes: &mut Fakes, settings: &str| start(fakes, settings, &["--dry-run"]).out_text();
    let text = dry(&mut fakes, "[gateway]\nicmp = \"safe\"\n");
    assert!(text.contains("# gateway rules: to install\n"), "{text}");
    assert_eq!(start(&mut fakes, "[gateway]\nicmp = \"safe\"\n", &[]).code, Some(0));
    let text = dry(&mut fakes, "[gateway]\nike = \"any\"\n");
    assert!(
        text.contains("# gateway rules: to change: icmp safe -> leave, ike leave -> any\n"),
        "{text}"
    );
    let text = dry(&mut fakes, "");
    assert!(
        text.contains("# gateway rules: to remove: icmp safe -> leave\n"),
        "{text}"
    );
    // What is kept is not what was installed: nothing is said of keys.
    let kept = fakes.path("root/var/lib/pluto-updown");
    let kept = fs::read_dir(kept)
        .expect("a folder")
        .next()
        .expect("a file")
        .expect("a file");
    fs::write(kept.path(), "[gateway]\nike = \"known\"\npeers = [\"192.0.2.7\"]\n").expect("a file");
    let text = dry(&mut fakes, "[gateway]\nike = \"any\"\n");
    assert!(text.contains("# gateway rules: to change\n"), "{text}");
}

/// An upgrade rewrites the rules of tunnels with the recorded policies, and leaves the gateway's to `start`, which knows the settings.
#[test]
fn status_asks_for_start_where_an_older_version_recorded_the_gateway() {
    let mut fakes = machine();
    assert_eq!(start(&mut fakes, GOOD, &[]).code, Some(0));
    let note = "settings not applied: gateway rules: to change";
    let status = |fakes: &mut Fakes| {
        let text = fakes.operate(&["status"]).out_text();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(!status(&mut fakes).contains(note));
    let record = fakes.namespace().join("plain-ipv4/tunnels/_gateway");
    let text = fs::read_to_string(&record).expect("the gateway's record");
    fs::write(&record, text.replace("\"format\":3", "\"format\":2")).expect("an older record");
    let text = status(&mut fakes);
    assert!(
        text.contains(note) && text.contains("fix: pluto-updown start"),
        "{text}"
    );
    assert_eq!(start(&mut fakes, GOOD, &[]).code, Some(0));
    assert!(!status(&mut fakes).contains(note));
}
