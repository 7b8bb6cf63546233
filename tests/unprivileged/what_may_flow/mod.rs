//! What is allowed: the page in words, the packets that it speaks of, and what must hold whatever is set.

mod examples;
mod generated;
mod page;
mod scenario;
mod sequences;
pub(crate) mod words;
