//! SELinux and AppArmor: what keeps a daemon from running its hook, or the hook from running
//! iptables.

use std::path::Path;

use super::Finding;
use crate::sys::files::read_plain;

/// AppArmor's profiles for IKE daemons, and where an administrator adds to each.
const PROFILES: [(&str, &str); 4] = [
    ("/usr/lib/ipsec/charon", "etc/apparmor.d/local/usr.lib.ipsec.charon"),
    (
        "/usr/sbin/charon-systemd",
        "etc/apparmor.d/local/usr.sbin.charon-systemd",
    ),
    (
        "/usr/libexec/ipsec/pluto",
        "etc/apparmor.d/local/usr.libexec.ipsec.pluto",
    ),
    ("/usr/lib/ipsec/pluto", "etc/apparmor.d/local/usr.lib.ipsec.pluto"),
];

/// All that is found below a root.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings: Vec<_> = selinux(root).into_iter().collect();
    let profiles = file_text(&root.join("sys/kernel/security/apparmor/profiles")).unwrap_or_default();
    for (daemon, local) in PROFILES {
        let enforced = profiles.lines().any(|line| line == format!("{daemon} (enforce)"));
        if enforced {
            findings.push(apparmor(root, daemon, local));
        }
    }
    findings
}

/// What a file says, if it is there and one that can be read.
fn file_text(path: &Path) -> Option<String> {
    let bytes = read_plain(path, 1 << 20).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn selinux(root: &Path) -> Option<Finding> {
    let enforce = file_text(&root.join("sys/fs/selinux/enforce"))?;
    (enforce.trim() == "1").then(|| {
        Finding::note_finding(
            "SELinux is enforcing",
            "the daemon's domain (ipsec_t) may run programs labelled bin_t; a hook with another label fails with status 126",
            "show the label with ls -Z, and set it with restorecon -v (in /usr/libexec and /usr/local/libexec); ausearch -m avc -ts recent lists denials",
        )
    })
}

fn apparmor(root: &Path, daemon: &str, local: &str) -> Finding {
    let added = file_text(&root.join(local)).unwrap_or_default();
    let code = |line: &&str| !line.trim_start().starts_with('#');
    match added.lines().filter(code).any(|line| line.contains("pluto-updown")) {
        true => Finding::ok_finding(format_args!("AppArmor: /{local} lets {daemon} run pluto-updown")),
        false => Finding::wrong_finding(
            format_args!("AppArmor confines {daemon}, and /{local} does not name pluto-updown"),
            "the daemon cannot run it, and strongSwan logs only that the updown script failed",
            &format!(
                "add to /{local}: /usr/{{,local/}}libexec/pluto-updown PUx, and load the profile: apparmor_parser -r /etc/apparmor.d/{}",
                local.rsplit('/').next().unwrap_or_default()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::commands::check::FindingSeverity;

    fn add_file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_confined_daemon_must_be_allowed_to_run_us() {
        let root = tempfile::TempDir::new().unwrap();
        assert_eq!(findings(root.path()), []);
        let profiles = "sys/kernel/security/apparmor/profiles";
        add_file(
            root.path(),
            profiles,
            "/usr/lib/ipsec/charon (complain)\n/usr/lib/ipsec/stroke (enforce)\n",
        );
        assert_eq!(findings(root.path()), []);
        add_file(root.path(), profiles, "/usr/lib/ipsec/charon (enforce)\n");
        assert_eq!(findings(root.path())[0].severity, FindingSeverity::Wrong);
        let local = "etc/apparmor.d/local/usr.lib.ipsec.charon";
        add_file(root.path(), local, "# /usr/local/libexec/pluto-updown PUx,\n");
        assert_eq!(findings(root.path())[0].severity, FindingSeverity::Wrong);
        add_file(root.path(), local, "/usr/local/libexec/pluto-updown PUx,\n");
        assert_eq!(findings(root.path())[0].severity, FindingSeverity::Fine);
    }

    #[test]
    fn selinux_is_reported_where_it_enforces() {
        let root = tempfile::TempDir::new().unwrap();
        add_file(root.path(), "sys/fs/selinux/enforce", "0");
        assert_eq!(findings(root.path()), []);
        add_file(root.path(), "sys/fs/selinux/enforce", "1");
        assert_eq!(findings(root.path())[0].severity, FindingSeverity::Note);
    }
}
