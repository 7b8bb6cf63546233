//! Takes argv and the environment, calls the library, returns the exit code.

use std::process::ExitCode;

#[expect(
    clippy::disallowed_methods,
    reason = "argv and the environment are taken here and nowhere else"
)]
fn main() -> ExitCode {
    ExitCode::from(pluto_updown::run(std::env::args_os(), std::env::vars_os()))
}
