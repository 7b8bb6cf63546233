//! Calls of the program that need no root: the kernel is a shell script that writes down what it was given.
//!
//! What a daemon, its peer or its administrator may say wrongly, and what may be wrong with the surroundings. Each gets one clear
//! line that names the culprit, a defined exit code, and no change or a complete one.

mod arguments;
mod dialects;
mod explain;
mod failed_ups;
mod fakes;
mod hostile;
mod owed;
mod processes;
mod programs;
mod record;
mod replay;
mod resolver;
mod start;
mod status;
mod stderr;
mod variables;
