//! How a property is tried: with values by chance, from a seed that a failure reports.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]
#![expect(clippy::print_stdout, reason = "shown if the test fails")]

use std::hash::{BuildHasher as _, RandomState};
use std::thread;

use proptest::test_runner::{Config, RngSeed};

/// As many cases from a seed by chance, or from `PROPTEST_RNG_SEED`. The harness shows the line that is printed here if one fails.
pub fn cases(cases: u32) -> Config {
    let defaults = Config::default();
    let seed = match defaults.rng_seed {
        RngSeed::Fixed(seed) => seed,
        // What the standard library takes from the system for its hash tables.
        RngSeed::Random => RandomState::new().hash_one(0),
    };
    println!("to run these cases again: {}", command(seed));
    Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..defaults
    }
}

fn command(seed: u64) -> String {
    let program = match env!("CARGO_CRATE_NAME") {
        "pluto_updown" => "--lib".to_owned(),
        name => format!("--test {name}"),
    };
    // The harness names each test's thread after the test.
    let thread = thread::current();
    let test = thread.name().unwrap_or_default();
    format!("PROPTEST_RNG_SEED={seed} cargo test {program} {test} -- --include-ignored")
}
