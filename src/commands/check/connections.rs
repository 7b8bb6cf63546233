//! Whether a connection that an entry of the settings names can exist.
//!
//! Only where every file of the daemons could be read to its end: a false alarm would be worse than
//! none.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Finding;
use super::configuration::{LARGEST, PLACES};
use crate::daemon::ConnectionName;
use crate::settings::Settings;
use crate::sys::files::read_plain;
use crate::words::nearest;

/// How many files are followed. More are no configuration of one gateway, or include each other.
const MOST_FILES: usize = 1000;

/// Connections that Openswan and libreswan have without a section: policy groups, and FreeS/WAN's
/// packets without a connection.
const IMPLICIT: [&str; 8] = [
    "block",
    "clear",
    "clear-or-private",
    "private",
    "private-or-clear",
    "packetdefault",
    "v6neighbor-hole-in",
    "v6neighbor-hole-out",
];

/// Entries whose `name` fits no connection in the daemons' files.
pub(super) fn findings(root: &Path, settings: &Settings) -> Vec<Finding> {
    let Some(names) = configured_names(root).filter(|names| !names.is_empty()) else {
        return Vec::new();
    };
    let known: Vec<_> = names.iter().map(String::as_str).chain(IMPLICIT).collect();
    let known: Vec<_> = known
        .iter()
        .filter_map(|name| ConnectionName::new(name.as_bytes()).ok())
        .collect();
    let mut findings = Vec::new();
    for (number, entry) in (1..).zip(&settings.connections) {
        let Some(pattern) = &entry.filter.name else { continue };
        if known.iter().any(|name| pattern.may_fit_configured(name)) {
            continue;
        }
        let lower: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let lower: Vec<_> = lower.iter().map(String::as_str).collect();
        let meant = nearest(&pattern.to_string(), &lower)
            .and_then(|word| names.iter().find(|name| name.to_ascii_lowercase() == word))
            .map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
        findings.push(Finding::note_finding(
            format_args!("[[connection]] {number}: no connection is called \"{pattern}\"{meant}"),
            "the entry applies to the name of a conn in ipsec.conf, or of a child in swanctl.conf, and none matches",
            "correct name, or delete the entry",
        ));
    }
    findings
}

/// The names of all connections in the daemons' files; nothing, if one of these cannot be read or
/// understood to its end.
fn configured_names(root: &Path) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut waiting = first_files(root)?;
    let mut seen = BTreeSet::new();
    while let Some(file) = waiting.pop() {
        if !seen.insert(file.path.clone()) {
            continue;
        }
        if seen.len() > MOST_FILES {
            return None;
        }
        let text = String::from_utf8(read_plain(&file.path, LARGEST).ok()?).ok()?;
        let (found, included) = match file.syntax {
            Syntax::Swanctl => children(&text)?,
            Syntax::Ipsec => conns(&text)?,
        };
        names.extend(found);
        for pattern in included {
            let paths = matching(root, &file.path, &pattern)?.into_iter();
            waiting.extend(paths.map(|path| ConfigFile { path, ..file }));
        }
    }
    Some(names)
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    /// Sections `conn NAME`.
    Ipsec,
    /// Sections in braces.
    Swanctl,
}

/// A file of a daemon's.
#[derive(Debug, Clone)]
struct ConfigFile {
    path: PathBuf,
    syntax: Syntax,
}

/// The files that daemons read first, those that no file includes.
fn first_files(root: &Path) -> Option<Vec<ConfigFile>> {
    let mut first = Vec::new();
    for place in PLACES {
        let path = root.join(place);
        let paths = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => return None,
            Ok(found) if found.is_dir() => matching(root, &path.join("any"), "*.conf")?,
            Ok(_) => vec![path],
        };
        let syntax = match place.contains("swanctl") {
            true => Syntax::Swanctl,
            false => Syntax::Ipsec,
        };
        first.extend(paths.into_iter().map(|path| ConfigFile { path, syntax }));
    }
    Some(first)
}

/// Names, and patterns of files that are included.
type Found = (Vec<String>, Vec<String>);

/// The names of the sections `conn NAME` of an ipsec.conf, and what it includes.
fn conns(text: &str) -> Option<Found> {
    let (mut names, mut included) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("conn"), Some(name), None) => names.push(name.trim_matches('"').to_owned()),
            (Some("include"), Some(pattern), None) => included.push(pattern.trim_matches('"').to_owned()),
            // A name with a blank, or something new.
            (Some("conn" | "include"), _, _) => return None,
            _ => {}
        }
        // Other names that Pluto calls the same connection by.
        if let Some((_, aliases)) = line.split_once("connalias=") {
            names.extend(aliases.trim().trim_matches('"').split([' ', ',']).map(str::to_owned));
        }
    }
    names.retain(|name| name != "%default" && !name.is_empty());
    Some((names, included))
}

/// The names of the sections in each `children` of a swanctl.conf, and what it includes
/// (strongswan.conf(5), SYNTAX).
fn children(text: &str) -> Option<Found> {
    let (mut names, mut included) = (Vec::new(), Vec::new());
    let mut open: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut rest = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = rest.strip_prefix("include ") {
            included.push(pattern.trim().trim_matches('"').to_owned());
            continue;
        }
        while let Some(at) = rest.find(['{', '}', '"']) {
            let before = &rest[..at];
            match rest.as_bytes().get(at) {
                Some(b'{') => {
                    // `name : template, template {`
                    let name = before.rsplit(['{', '}']).next().unwrap_or_default();
                    let name = name.split(':').next().unwrap_or_default().trim();
                    if name.is_empty() || name.contains(['=', ' ', '\t']) {
                        return None;
                    }
                    if open.last().is_some_and(|parent| parent == "children") {
                        names.push(name.to_owned());
                    }
                    open.push(name.to_owned());
                }
                Some(b'}') => drop(open.pop()?),
                // A value in quotes can hold braces; one that goes on in the next line is not read.
                _ => {
                    let behind = &rest[at + 1..];
                    rest = &behind[behind.find('"')? + 1..];
                    continue;
                }
            }
            rest = &rest[at + 1..];
        }
    }
    open.is_empty().then_some((names, included))
}

/// The files that an `include` in a file means: below the root, or beside the file. Nothing, if one
/// that is named whole is not there, or a folder cannot be listed.
fn matching(root: &Path, file: &Path, pattern: &str) -> Option<Vec<PathBuf>> {
    let path = match Path::new(pattern).strip_prefix("/") {
        Ok(inside) => root.join(inside),
        Err(_) => file.parent()?.join(pattern),
    };
    let name = path.file_name()?.to_str()?.to_owned();
    let folder = path.parent()?;
    if folder.to_str()?.contains(['*', '?', '[', '{']) || name.contains(['?', '[', '{', '\\']) {
        return None;
    }
    let Some((head, tail)) = name.split_once('*') else {
        return path.is_file().then(|| vec![path]);
    };
    if tail.contains('*') {
        return None;
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).ok()? {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let is_meant = name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail);
        if is_meant && !name.starts_with('.') {
            found.push(folder.join(name));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is noted with these settings beside these files.
    fn noted(settings: &str, files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::TempDir::new().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let findings = findings(root.path(), &Settings::parse(settings).unwrap());
        findings.into_iter().map(|finding| finding.what).collect()
    }

    fn entry(name: &str) -> String {
        format!("[[connection]]\nname = \"{name}\"\nallow = \"none\"\n")
    }

    const IPSEC: &str = "config setup\nconn %default\n  ike=aes\nconn branch-zurich\n  also=base\nconn \"road\" # x\n\
                         conn other\n  connalias=\"one two\"\ninclude ipsec.d/*.conf\n";

    const SWANCTL: &str = "connections {\n  gw : base {\n    remote { id = \"a } b {\" }\n    children { net-net { updown = /x }\n\
                           other : child-base, child-more {\n }\n    }\n  }\n}\nbase { children { inherited { } } }\n\
                           include conf.d/*.conf\n";

    #[test]
    fn a_name_that_no_connection_has_is_noted_with_the_nearest() {
        let ipsec = [("etc/ipsec.conf", IPSEC), ("etc/ipsec.d/a.conf", "conn included\n")];
        let swanctl = [
            ("etc/swanctl/swanctl.conf", SWANCTL),
            (
                "etc/swanctl/conf.d/b.conf",
                "connections { x { children { third { } } } }\n",
            ),
        ];
        for (files, name, nearest) in [
            (&ipsec[..], "branch-zurihc", Some("branch-zurich")),
            (&ipsec, "Other", Some("other")),
            (&ipsec, "inclded", Some("included")),
            (&ipsec, "nothing-*-like-it", None),
            // The IKE connection is not what the daemon passes.
            (&swanctl, "gw", None),
            (&swanctl, "net_net", Some("net-net")),
            (&swanctl, "thrid", Some("third")),
        ] {
            let meant = nearest.map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"));
            let [found] = &*noted(&entry(name), files) else {
                panic!("{name}: {:?}", noted(&entry(name), files))
            };
            assert!(
                found.starts_with("[[connection]] 1: no connection is called \""),
                "{found}"
            );
            assert!(found.ends_with(&format!("\"{meant}")), "{name}: {found}");
        }
    }

    #[test]
    fn a_name_that_a_connection_may_have_is_not_noted() {
        let ipsec = [("etc/ipsec.conf", IPSEC), ("etc/ipsec.d/a.conf", "conn included\n")];
        let swanctl = [("etc/swanctl/swanctl.conf", SWANCTL), ("etc/swanctl/conf.d/b.conf", "")];
        for name in [
            "road",
            "one",
            "two",
            "branch-*",
            "*",
            "branch-zuric?",
            "included",
            // Parts of leftsubnets=, members of groups, and a policy group without a section.
            "branch-zurich/1x2",
            "branch-*/?x*",
            "road#10.0.0.0/8",
            "private",
            "private#*",
        ] {
            assert_eq!(noted(&entry(name), &ipsec), [""; 0], "{name}");
        }
        for name in ["net-net", "other", "inherited", "*-net"] {
            assert_eq!(noted(&entry(name), &swanctl), [""; 0], "{name}");
        }
        assert_eq!(noted("[[connection]]\nuser = \"anna\"\n", &ipsec), [""; 0]);
    }

    /// Where not everything can be read, any name may be somewhere.
    #[test]
    fn nothing_is_noted_where_a_file_cannot_be_read_to_its_end() {
        for files in [
            &[][..],
            &[("etc/ipsec.conf", "config setup\n")],
            &[("etc/ipsec.conf", "conn a\ninclude /etc/more.conf\n")],
            &[("etc/ipsec.conf", "conn a\ninclude /etc/nowhere/*.conf\n")],
            &[("etc/ipsec.conf", "conn a\ninclude /etc/ipsec.*/?.conf\n")],
            &[("etc/ipsec.conf", "conn a b\n")],
            &[("etc/swanctl/swanctl.conf", "connections { x { children { a { } }\n")],
            &[(
                "etc/swanctl/swanctl.conf",
                "connections { x { children { a { y = \"b\n\" } } } }\n",
            )],
            &[(
                "etc/swanctl/swanctl.conf",
                "connections { x { children { a { } } } } }\n",
            )],
        ] {
            assert_eq!(noted(&entry("zzz"), files), [""; 0], "{files:?}");
        }
        let root = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/ipsec.conf"), b"conn a\n# caf\xe9\n").unwrap();
        assert_eq!(findings(root.path(), &Settings::parse(&entry("zzz")).unwrap()), []);
    }

    #[test]
    fn files_that_include_each_other_are_read_once() {
        let files = [("etc/ipsec.conf", "conn a\ninclude /etc/ipsec.conf\n")];
        assert_eq!(noted(&entry("zzz"), &files).len(), 1);
    }
}
