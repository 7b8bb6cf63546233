//! What `contrib` has for other programs of a machine: units, and a plugin of netfilter-persistent.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// A unit's file without its comments.
fn unit(name: &str) -> String {
    let path = format!("{}/contrib/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("a unit");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Default dependencies put a unit after sysinit.target. cloud-init's first units are before that and after the network.
#[test]
fn the_unit_that_is_before_the_network_is_not_after_sysinit() {
    let text = unit("systemd/pluto-updown.service");
    for line in [
        "Before=network-pre.target",
        "DefaultDependencies=no",
        "After=local-fs.target",
        "Conflicts=shutdown.target",
        "Before=shutdown.target",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in {text}");
    }
}

/// A start limit would give up on a firewall or a bus that is late.
#[test]
fn a_unit_that_others_start_again_and_again_has_no_start_limit() {
    for name in [
        "systemd/pluto-updown-restore.service",
        "firewalld/pluto-updown-firewalld.service",
    ] {
        assert!(unit(name).contains("\nStartLimitIntervalSec=0\n"), "{name}");
    }
}

/// firewalld loads its rules after systemd considers it active or reloaded, and fails if somebody changes rules meanwhile.
#[test]
fn units_that_run_after_firewalld_wait_until_it_answers() {
    for name in ["systemd/pluto-updown.service", "systemd/pluto-updown-restore.service"] {
        let text = unit(name);
        let waits = text
            .lines()
            .any(|line| line.starts_with("ExecStartPre=-") && line.contains("--timeout=60 --auto-start=no"));
        assert!(waits, "{name}");
        let propagated = text.lines().find(|line| line.starts_with("ReloadPropagatedFrom="));
        assert!(!propagated.is_some_and(|line| line.contains("firewalld")), "{name}");
    }
}

/// What systemd itself says of a unit's confinement: 9.6 without any, on a scale of 10.
#[test]
fn the_units_are_confined_and_see_every_process() {
    for name in [
        "systemd/pluto-updown.service",
        "systemd/pluto-updown-restore.service",
        "systemd/pluto-updown-watch.service",
        "firewalld/pluto-updown-firewalld.service",
    ] {
        let path = format!("{}/contrib/{name}", env!("CARGO_MANIFEST_DIR"));
        let threshold = ["security", "--offline=yes", "--no-pager", "--threshold=40"];
        let judged = Command::new("systemd-analyze")
            .args(threshold)
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            judged.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&judged.stdout)
        );
        // A daemon that cannot be seen would pass for dead, and its tunnels would go.
        for key in [
            "ProtectProc",
            "ProcSubset",
            "PrivatePIDs",
            "PrivateNetwork",
            "PrivateUsers",
        ] {
            assert!(!unit(name).contains(key), "{name}: {key}");
        }
    }
}

#[test]
fn saving_rules_leaves_a_symbolic_link_and_takes_our_rules_out_of_what_it_leads_to() {
    let folder = tempfile::TempDir::new().unwrap();
    let [target, link] = ["real.v4", "rules.v4"].map(|name| folder.path().join(name));
    fs::write(
        &target,
        "*filter\n:PLUTO-IN - [0:0]\n-A FORWARD -j PLUTO-IN\n[1:2] -A PLUTO-IN -j DROP\nCOMMIT\n",
    )
    .unwrap();
    symlink("real.v4", &link).unwrap();
    let plugin = include_str!("../../../contrib/netfilter-persistent/50-pluto-updown");
    let plugin = plugin.replace("/etc/iptables", folder.path().to_str().unwrap());
    let ending = Command::new("sh")
        .args(["-c", &plugin, "plugin", "save"])
        .status()
        .unwrap();
    assert!(ending.success());
    assert!(link.is_symlink());
    let saved = fs::read_to_string(&target).unwrap();
    assert_eq!(saved, "*filter\n:PLUTO-IN - [0:0]\n-A FORWARD -j PLUTO-IN\nCOMMIT\n");
}
