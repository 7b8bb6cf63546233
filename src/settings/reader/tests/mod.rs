//! The reader as a whole.

mod accepted;
mod arbitrary;
mod documents;
mod messages;
mod rendered;

use super::*;
