//! The reader as a whole.

mod accepted;
mod arbitrary;
mod messages;
mod rendered;

use super::*;
