//! The operating system: programs that are started, and files that others wrote.

pub(crate) mod files;
pub(crate) mod process;
