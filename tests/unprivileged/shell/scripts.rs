//! The scripts of contrib: each says what it is for, and what they share is right.

#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Scripts that other programs call, with words of their own, and those that run in a machine of the tests.
const NOT_FOR_PEOPLE: [&str; 6] = [
    "contrib/daemons/hooks/",
    "contrib/daemons/machine/",
    "contrib/netfilter-persistent/",
    "contrib/packaging/",
    "contrib/shorewall/",
    "contrib/ufw/",
];

/// Every file below a folder that begins with a line for a shell, and may be executed.
fn scripts_below(folder: &Path, scripts: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            scripts_below(&path, scripts);
        } else if metadata.permissions().mode() & 0o111 != 0 && fs::read(&path).unwrap().starts_with(b"#!/bin/") {
            scripts.push(path);
        }
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn scripts_for_people() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut scripts = [".ci/run", ".ci/prose"].map(|name| root.join(name)).to_vec();
    scripts_below(&root.join("contrib"), &mut scripts);
    scripts.retain(|script| {
        let name = script.strip_prefix(root).unwrap();
        !NOT_FOR_PEOPLE.iter().any(|folder| name.starts_with(folder))
    });
    assert!(scripts.len() > 10, "{scripts:?}");
    scripts
}

#[test]
fn every_script_for_people_explains_itself() {
    let root = Path::new(ROOT);
    for script in scripts_for_people() {
        for option in ["--help", "-h"] {
            // With nothing on PATH that builds or installs: it explains itself before it does anything.
            let output = run(Command::new(&script).arg(option).env("PATH", "/usr/bin:/bin"));
            let name = script.strip_prefix(root).unwrap().to_str().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{name} {option}: {output:?}");
            assert!(text.contains(&format!("usage: {name}")), "{name} {option}: {text}");
            assert!(
                !text.contains("set -e") && output.stderr.is_empty(),
                "{name} {option}: {output:?}"
            );
        }
    }
}

/// The names of the functions that a script defines at its left edge.
fn functions(script: &Path) -> Vec<String> {
    let text = fs::read_to_string(script).unwrap();
    let names = text.lines().filter_map(|line| line.split_once("()"));
    let names = names.map(|(name, _)| name.to_owned());
    names.filter(|name| !name.contains([' ', '#', '(', '"'])).collect()
}

#[test]
fn no_script_takes_a_shared_function_away() {
    let shared = functions(&Path::new(ROOT).join("contrib/common.bash"));
    assert!(shared.contains(&"need".to_owned()), "{shared:?}");
    for script in scripts_for_people() {
        if fs::read_to_string(&script).unwrap().contains("/common.bash\"") {
            let again: Vec<_> = functions(&script)
                .into_iter()
                .filter(|name| shared.contains(name))
                .collect();
            assert!(again.is_empty(), "{} defines anew: {again:?}", script.display());
        }
    }
}

/// Runs a line of bash with what the scripts share.
fn shared(folder: &TempDir, line: &str) -> Output {
    let script = folder.path().join("script");
    fs::write(
        &script,
        format!("set -euo pipefail\n. {ROOT}/contrib/common.bash\n{line}\n"),
    )
    .unwrap();
    run(Command::new("bash").arg(&script).current_dir(folder.path()))
}

#[test]
fn a_program_is_static_if_its_header_names_no_interpreter() {
    let folder = TempDir::new().unwrap();
    // Both name the loader in their text, as every static program of glibc does.
    let text = "#include <stdio.h>\nint main(void) { puts(\"/lib64/ld-linux-x86-64.so.2\"); return 0; }\n";
    fs::write(folder.path().join("program.c"), text).unwrap();
    for (name, options) in [
        ("dynamic", &[][..]),
        ("static", &["-static"]),
        ("pie", &["-static-pie"]),
    ] {
        let mut compiler = Command::new("cc");
        let output = run(compiler
            .args(options)
            .args(["-o", name, "program.c"])
            .current_dir(folder.path()));
        assert!(output.status.success(), "{name}: {output:?}");
    }
    fs::write(folder.path().join("script-of-another-kind"), "#!/bin/sh\n").unwrap();
    for (name, expected) in [
        ("dynamic", false),
        ("static", true),
        ("pie", true),
        ("script-of-another-kind", false),
        ("missing", false),
    ] {
        let output = shared(&folder, &format!("is_static {name}"));
        assert_eq!(output.status.success(), expected, "{name}: {output:?}");
    }
}

/// A folder for PATH with these programs, each a line of sh, and what the scripts themselves need.
fn programs(folder: &TempDir, programs: &[(&str, &str)]) -> String {
    let path = folder.path().join("programs");
    fs::create_dir(&path).unwrap();
    for name in ["bash", "cut", "dirname", "env", "head", "sed", "sort", "tr"] {
        let found = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
        let found = found.iter().find(|found| found.exists()).unwrap();
        std::os::unix::fs::symlink(found, path.join(name)).unwrap();
    }
    for (name, line) in programs {
        let program = path.join(name);
        fs::write(&program, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    path.display().to_string()
}

/// Says of each of two packages which version apt would install; installing writes down what.
fn asked_for_rust(cargo: &str, cargo_web: &str, in_the_way: bool, privileged: bool) -> (Output, String) {
    let folder = TempDir::new().unwrap();
    let installed = folder.path().join("installed");
    let policy =
        format!("case $2 in cargo) echo '  Candidate: {cargo}' ;; cargo-web) echo '  Candidate: {cargo_web}' ;; esac");
    let simulated = if in_the_way { "exit 100" } else { "exit 0" };
    let get = format!(
        "case \" $* \" in *' update '*) ;; *' -s '*--no-remove*) {simulated} ;; *' -s '*) exit 0 ;;
         *) echo \"$@\" >>{} ;; esac",
        installed.display()
    );
    let path = programs(&folder, &[("apt-cache", &policy), ("apt-get", &get)]);
    let line = format!(
        "PATH={path}\nHOME={path}\nunset CARGO_HOME\ncan_be_root() {{ {privileged}; }}\nas_root() {{ \"$@\"; }}\nneed rust tool-that-is-missing=tool"
    );
    let output = shared(&folder, &line);
    (output, fs::read_to_string(installed).unwrap_or_default())
}

#[test]
fn a_toolchain_is_taken_from_the_package_that_is_new_enough() {
    for (cargo, cargo_web, expected) in [
        ("0.66.0+ds1-1", "1.96.0+dfsg1-1~deb12u2", "cargo-web"),
        ("1.90.0+dfsg1-1", "1.96.0+dfsg1-1~deb12u2", "cargo"),
        ("1:1.88.0-1", "(none)", "cargo"),
        ("1.85.0+dfsg3-1", "1.100.0-1", "cargo-web"),
    ] {
        let (output, installed) = asked_for_rust(cargo, cargo_web, false, true);
        let line = installed.lines().next().unwrap_or_default();
        assert!(line.contains("--no-remove"), "{cargo} {cargo_web}: {line} {output:?}");
        assert!(
            line.contains(&format!(" {expected} ")),
            "{cargo} {cargo_web}: {line} {output:?}"
        );
        // With what else is missing, in one go.
        assert!(line.split(' ').any(|word| word == "tool"), "{line}");
    }
}

#[test]
fn nothing_is_installed_where_no_toolchain_is_to_be_had() {
    for (cargo, cargo_web, in_the_way) in [
        ("0.66.0+ds1-1", "(none)", false),
        ("1.87.9-1", "1.85.0+dfsg3-1~deb12u3", false),
        ("0.66.0+ds1-1", "1.96.0+dfsg1-1~deb12u2", true),
    ] {
        let (output, installed) = asked_for_rust(cargo, cargo_web, in_the_way, true);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && installed.is_empty(),
            "{cargo} {cargo_web}: {installed} {output:?}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("https://rustup.rs"), "{error}");
    }
}

#[test]
fn a_user_who_may_not_install_reads_what_is_missing() {
    let (output, installed) = asked_for_rust("0.66.0+ds1-1", "1.96.0+dfsg1-1~deb12u2", false, false);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && installed.is_empty(),
        "{installed} {output:?}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    for words in [
        "missing: Rust ",
        " tool-that-is-missing",
        "run this once as root",
        "tool and Rust",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}
