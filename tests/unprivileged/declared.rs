//! `contrib/supply-chain used`: every crate that `Cargo.toml` declares is used.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs the step over a tree that has this as its `Cargo.toml`, its `src/lib.rs` and its `tests/all.rs`.
fn step(declared: &str, source: &str, test: &str) -> Output {
    let tree = TempDir::new().unwrap();
    for folder in ["contrib", "src", "tests"] {
        fs::create_dir(tree.path().join(folder)).unwrap();
    }
    for script in ["contrib/supply-chain", "contrib/common.bash"] {
        fs::copy(Path::new(ROOT).join(script), tree.path().join(script)).unwrap();
    }
    fs::write(tree.path().join("Cargo.toml"), declared).unwrap();
    fs::write(tree.path().join("src/lib.rs"), source).unwrap();
    fs::write(tree.path().join("tests/all.rs"), test).unwrap();
    let script = tree.path().join("contrib/supply-chain");
    Command::new("/bin/bash").arg(script).arg("used").output().unwrap()
}

const DECLARED: &str = "\
[package]
name = \"tree\"
rust-version = \"1.88\"

[dependencies]
log = \"0.4\"
two-words = { version = \"1\", features = [\"log\"] }

[dev-dependencies]
proptest = \"1\"
";

#[test]
fn crates_that_are_used_pass() {
    let source = "use log::warn;\nfn f() { two_words::f(); }\n";
    let output = step(DECLARED, source, "use proptest::prelude::*;\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_crate_that_nothing_uses_is_named() {
    let used = "use log::warn;\nuse two_words::f;\n";
    for (source, test, missing) in [
        ("use log::warn;\n", "use proptest::prelude::*;\n", "two-words"),
        // A crate of the tests is none of the program's, a comment uses nothing, and neither does a module of the same name.
        (used, "", "proptest"),
        ("use two_words::f;\n", "use log::warn;\nuse proptest::prop;\n", "log"),
        ("use two_words::f;\n// use log::warn;\n", "use proptest::prop;\n", "log"),
        (
            "use two_words::f;\nuse crate::log::Log;\nuse syslog::Logger;\n",
            "use proptest::prop;\n",
            "log",
        ),
    ] {
        let output = step(DECLARED, source, test);
        assert!(!output.status.success(), "{missing}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(&format!(": {missing}")), "{missing}: {stderr}");
    }
    let target = DECLARED.replace("[dependencies]", "[target.'cfg(unix)'.dependencies]");
    assert!(
        !step(&target, "use log::warn;\n", "use proptest::prop;\n")
            .status
            .success()
    );
}
