//! Calls of the program on real iptables, each test on a machine of its own. They need root.

#[path = "../support/mod.rs"]
mod support;

mod captures;
mod concurrency;
mod daemons;
mod defaults;
mod lock;
mod programs;
mod reloads;
mod resolver;
mod rights;
mod routes;
mod space;
mod tables;
mod variants;
