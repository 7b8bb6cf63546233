//! A property that fails reports how to have the same failure again, and is no longer than a screen.

#![expect(clippy::disallowed_methods, reason = "this program runs itself, and is told to fail")]

use std::process::Command;

use proptest::prelude::*;

use crate::support::property::cases;

proptest! {
    #![proptest_config(cases(100))]

    /// Holds, unless the test below wants it to fail.
    #[test]
    fn small_numbers_are_small(number in 0..1_000_000_u32) {
        let is_small = number < 1000 || std::env::var_os("FAIL_ON_PURPOSE").is_none();
        assert!(is_small, "{number} is not small");
    }
}

/// What the test above says when it is made to fail, with this seed if any.
fn failure(seed: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "again::small_numbers_are_small"])
        .env("FAIL_ON_PURPOSE", "yes")
        .env("RUST_BACKTRACE", "1")
        .env_remove("PROPTEST_RNG_SEED");
    if let Some(seed) = seed {
        command.env("PROPTEST_RNG_SEED", seed);
    }
    String::from_utf8(command.output().expect("its end").stdout).expect("text")
}

#[test]
fn a_property_that_fails_names_its_seed_and_has_one_backtrace() {
    let said = failure(None);
    let (_, from) = said
        .split_once("PROPTEST_RNG_SEED=")
        .unwrap_or_else(|| panic!("{said}"));
    let (seed, rest) = from.split_once(' ').expect("a command");
    assert!(
        rest.starts_with("cargo test --test unprivileged again::small_numbers_are_small"),
        "{said}"
    );
    assert!(said.contains("minimal failing input: number = 1000"), "{said}");
    assert_eq!(said.matches("stack backtrace:").count(), 1, "{said}");

    // How often it had held before depends on the seed alone.
    let held = |said: &str| said.lines().find(|line| line.contains("successes:")).map(str::to_owned);
    assert!(held(&said).is_some(), "{said}");
    assert_eq!(held(&failure(Some(seed))), held(&said));
}
