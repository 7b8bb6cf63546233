//! The library and the program on the real kernel and the real iptables, each test in network namespaces of its own. A test that needs
//! root is ignored unless `contrib/test` runs it; a module here has at least one of these.

#[path = "../support/mod.rs"]
mod support;

mod counters;
mod faults;
mod guides;
mod kernel;
mod namespaces;
mod parity;
mod random_failures;
mod side_by_side;
mod strictness;
