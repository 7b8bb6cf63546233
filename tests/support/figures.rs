//! Figures for `contrib/faults`, which shows every line of a test that begins with this mark.

#![allow(dead_code, reason = "each test binary uses its part of this module")]
#![expect(clippy::print_stdout, reason = "figures are there to be printed")]

use std::fmt::Display;

/// Tells a figure.
pub fn print_figure(figure: impl Display) {
    println!("figure: {figure}");
}
