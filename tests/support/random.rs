//! Chance that can be had again: the same seed gives the same numbers.

#![allow(dead_code, reason = "each test binary uses its part of this module")]
#![expect(clippy::disallowed_methods, reason = "a test may be told its seed")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

/// Numbers by SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from(self.next() % limit).expect("smaller than a usize")
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// A number from the environment by which whoever runs a test makes it longer or has it again; another one, if it is not set.
pub fn parameter<T: FromStr<Err: Debug> + Display>(variable: &str, otherwise: T) -> T {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{variable}={text}: {error:?}")),
        Err(_) => otherwise,
    }
}

/// The seed `FAULTS_SEED`, or one of this moment.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |elapsed| elapsed.as_nanos());
    parameter("FAULTS_SEED", u64::try_from(now % 1_000_000).expect("below a million"))
}
