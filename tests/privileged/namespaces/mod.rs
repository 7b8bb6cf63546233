//! Calls of the program on real iptables, each test on a machine of its own. They need root.

mod apparmor;
mod boots;
mod captures;
mod check;
mod concurrency;
mod daemons;
mod defaults;
mod dry_runs;
mod explained;
mod failed_ups;
mod flush;
mod lock;
mod logged;
mod one_order;
mod owed;
mod packets;
mod programs;
mod prune;
mod reloads;
mod resolver;
mod restore;
mod rights;
mod routes;
mod safeguards;
#[cfg(target_arch = "x86_64")]
mod seccomp;
mod settings;
mod space;
mod spelling;
mod starts;
mod status;
mod storm;
mod tables;
mod upgrade;
mod variants;
mod verdicts;
