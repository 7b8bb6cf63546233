//! The operating system: programs that are started, and files that others wrote.

pub mod files;
pub mod process;
