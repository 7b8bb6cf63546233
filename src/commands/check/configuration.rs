//! Whether a daemon's configuration names this program, and a program that is there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::sys::files::read_plain;
use crate::words::{counted_noun, nearest};

/// The files of the daemons, and the folders of such files.
pub(super) const PLACES: [&str; 10] = [
    "etc/ipsec.conf",
    "etc/ipsec.d",
    "etc/swanctl/swanctl.conf",
    "etc/swanctl/conf.d",
    "etc/strongswan/ipsec.conf",
    "etc/strongswan/swanctl/swanctl.conf",
    "etc/strongswan/swanctl/conf.d",
    "etc/strongswan.d/swanctl",
    "usr/local/etc/swanctl/swanctl.conf",
    "usr/local/etc/swanctl/conf.d",
];

/// How much of a file is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// A line that says which hook a daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    file: PathBuf,
    line: usize,
    program: PathBuf,
}

/// All that is found below a root.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let files = config_files(root);
    let (mut settings, mut findings) = (Vec::new(), Vec::new());
    for (file, text) in &files {
        settings.extend(updown_settings(file, text));
        findings.extend(doubled_hooks(file, text));
        findings.extend(misspelt(file, text));
    }
    if settings.is_empty() && !files.is_empty() {
        findings.push(Finding::note_finding(
            format_args!(
                "{} read, none sets leftupdown or updown to pluto-updown",
                counted_noun(files.len(), "IKE config file")
            ),
            "without this line the IKE daemon runs its stock script",
            &format!(
                "set leftupdown={} in ipsec.conf, or updown = in swanctl.conf, in each connection",
                own_path()
            ),
        ));
    }
    findings.extend(settings.iter().map(|setting| program(root, setting)));
    findings
}

/// Hooks with a name like this program's: a daemon that names one means this program.
fn misspelt(file: &Path, text: &str) -> Vec<Finding> {
    const NAME: &str = "pluto-updown";
    let hooks = assignments(text).filter(|(_, (key, _))| is_hook(key));
    let wrong = hooks.filter_map(|(line, (_, value))| {
        let word = value.trim_matches(['"', '\'']).split_ascii_whitespace().next()?;
        let name = Path::new(word).file_name()?.to_str()?;
        (name != NAME && nearest(name, &[NAME]).is_some() && !Path::new(word).exists()).then(|| {
            Finding::wrong_finding(
                format_args!(
                    "{}:{line}: {word}: no such program; did you mean {NAME}?",
                    file.display()
                ),
                "libreswan takes a tunnel down if its hook cannot run; strongSwan keeps it up without any rule",
                &format!("write {} there, and reload the daemon's configuration", own_path()),
            )
        })
    });
    wrong.collect()
}

/// Where the hook is: beside this program, which an administrator calls from a folder for programs,
/// or else this program itself.
fn own_path() -> String {
    let program = fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("/usr/libexec/pluto-updown"));
    hook_beside(&program).display().to_string()
}

/// `/usr/libexec/pluto-updown` for `/usr/sbin/pluto-updown`, if it is there.
fn hook_beside(program: &Path) -> PathBuf {
    let beside = program
        .parent()
        .and_then(Path::parent)
        .map(|prefix| prefix.join("libexec/pluto-updown"));
    match beside {
        Some(hook) if hook.is_file() => hook,
        Some(_) | None => program.to_owned(),
    }
}

/// The files of the daemons that can be read, with what is in them.
pub(super) fn config_files(root: &Path) -> Vec<(PathBuf, String)> {
    let with_text = |file: PathBuf| {
        let bytes = read_plain(&file, LARGEST).ok()?;
        Some((file, String::from_utf8_lossy(&bytes).into_owned()))
    };
    files(root).into_iter().filter_map(with_text).collect()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for place in PLACES.map(|place| root.join(place)) {
        match fs::read_dir(&place) {
            Ok(entries) => {
                let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
                files.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "conf")));
            }
            Err(_) => files.push(place),
        }
    }
    files.retain(|path| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LARGEST));
    files.sort();
    files
}

/// The settings of a hook in a file that name this program.
fn updown_settings(file: &Path, text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (line, (key, value)) in assignments(text) {
        let word = value.trim_matches(['"', '\'']).split_ascii_whitespace().next();
        if let (true, Some(program)) = (is_hook(key), word.map(PathBuf::from))
            && program.file_name().is_some_and(|name| name == "pluto-updown")
        {
            settings.push(Setting {
                file: file.to_owned(),
                line,
                program,
            });
        }
    }
    settings
}

/// Whether a key says which hook a daemon runs.
fn is_hook(key: &str) -> bool {
    ["leftupdown", "rightupdown", "updown"].contains(&key)
}

/// `key=value` in ipsec.conf, `key = value` in swanctl.conf, with its line number, without comments
/// (`#`).
pub(super) fn assignments(text: &str) -> impl Iterator<Item = (usize, (&str, &str))> {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        let code = line.split('#').next()?;
        let (left, value) = code.split_once('=')?;
        let key = left.rsplit(['{', '\t', ' ']).find(|word| !word.is_empty())?;
        Some((number, (key, value.trim())))
    })
}

/// Where a daemon's own script runs beside us: strongSwan's `leftfirewall=yes` together with a hook
/// of one's own.
fn doubled_hooks(file: &Path, text: &str) -> Option<Finding> {
    let yes = |key: &str, value: &str| ["leftfirewall", "rightfirewall"].contains(&key) && value == "yes";
    let (line, _) = assignments(text).find(|(_, (key, value))| yes(key, value))?;
    let names_this_program = !updown_settings(file, text).is_empty();
    names_this_program.then(|| {
        Finding::note_finding(
            format_args!("{}:{line}: leftfirewall=yes beside leftupdown=", file.display()),
            "in one connection only one of the two takes effect; leftfirewall=yes runs the stock script",
            "delete leftfirewall= from connections that set leftupdown=",
        )
    })
}

fn program(root: &Path, setting: &Setting) -> Finding {
    let Setting { file, line, program } = setting;
    let at = format!("{}:{line}: {}", file.display(), program.display());
    let inside = root.join(program.strip_prefix("/").unwrap_or(program));
    let fix = "install the program there, owned by root and with mode 0755: install -m 755 pluto-updown PATH";
    let wrong = |what: &str| {
        Finding::wrong_finding(
            format_args!("{at}: {what}"),
            "libreswan takes a tunnel down if its hook cannot run; strongSwan keeps it up without any rule",
            fix,
        )
    };
    if !program.is_absolute() {
        return wrong("not an absolute path");
    }
    match fs::metadata(&inside) {
        Err(error) => wrong(&error.to_string()),
        Ok(file) if !file.is_file() || file.mode() & 0o111 == 0 => wrong("not an executable file"),
        Ok(file) if file.uid() != 0 || file.mode() & 0o022 != 0 => Finding::wrong_finding(
            format_args!("{at}: not only root can write it"),
            "the daemon runs it as root",
            fix,
        ),
        Ok(_) => Finding::ok_finding(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::FindingSeverity;

    fn programs(text: &str) -> Vec<(usize, PathBuf)> {
        updown_settings(Path::new("/f"), text)
            .into_iter()
            .map(|setting| (setting.line, setting.program))
            .collect()
    }

    #[test]
    fn a_hook_is_found_in_the_spelling_of_every_daemon() {
        let own_path = PathBuf::from("/usr/local/libexec/pluto-updown");
        for text in [
            "conn a\n    leftupdown=/usr/local/libexec/pluto-updown\n",
            "conn a\n\tleftupdown=\"/usr/local/libexec/pluto-updown --route yes\" # mine\n",
            "x {\n    updown = /usr/local/libexec/pluto-updown iptables\n}\n",
            "x\n y { updown = /usr/local/libexec/pluto-updown\n}\n",
        ] {
            assert_eq!(programs(text), [(2, own_path.clone())], "{text}");
        }
        for text in [
            "#leftupdown=/usr/local/libexec/pluto-updown\n",
            "leftupdown=\"ipsec _updown\"\n",
            "leftid=pluto-updown\n",
            "# updown = /x/pluto-updown",
        ] {
            assert_eq!(programs(text), [], "{text}");
        }
    }

    #[test]
    fn a_hook_whose_name_is_misspelt_is_wrong() {
        for name in ["pluto-updwon", "pluto_updown", "pluto-updow"] {
            let text = format!("conn a\n    leftupdown=\"/nonexistent/{name} --route yes\"\n");
            let [finding] = &*misspelt(Path::new("/f"), &text) else {
                panic!("{name}")
            };
            assert_eq!(finding.severity, FindingSeverity::Wrong);
            assert!(
                finding.what.contains("/f:2: ") && finding.what.contains("did you mean pluto-updown?"),
                "{finding}"
            );
        }
        for hook in [
            "ipsec _updown",
            "/usr/libexec/ipsec/_updown",
            "/x/pluto-updown",
            "/x/mine",
        ] {
            assert_eq!(
                misspelt(Path::new("/f"), &format!("leftupdown=\"{hook}\"\n")),
                [],
                "{hook}"
            );
        }
    }

    #[test]
    fn the_hook_is_named_and_not_the_copy_that_an_administrator_calls() {
        let root = tempfile::TempDir::new().unwrap();
        let [program, hook] = ["sbin", "libexec"].map(|folder| root.path().join(folder).join("pluto-updown"));
        assert_eq!(hook_beside(&program), program);
        fs::create_dir(root.path().join("libexec")).unwrap();
        fs::write(&hook, "").unwrap();
        assert_eq!(hook_beside(&program), hook);
        assert_eq!(hook_beside(&hook), hook);
    }

    #[test]
    fn a_program_that_is_not_there_is_wrong_and_no_configuration_is_nothing() {
        let root = tempfile::TempDir::new().unwrap();
        assert_eq!(findings(root.path()), []);
        fs::create_dir_all(root.path().join("etc/ipsec.d")).unwrap();
        let file = root.path().join("etc/ipsec.d/mine.conf");
        fs::write(&file, "conn a\n leftupdown=/opt/pluto-updown\n").unwrap();
        let [finding] = &*findings(root.path()) else {
            panic!("one finding")
        };
        assert_eq!(finding.severity, FindingSeverity::Wrong);
        assert!(
            finding.what.contains("mine.conf:2: /opt/pluto-updown: No such file"),
            "{finding}"
        );
        fs::write(&file, "conn a\n").unwrap();
        assert_eq!(findings(root.path())[0].severity, FindingSeverity::Note);
    }
}
