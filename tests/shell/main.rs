//! The program as somebody meets it who types: help, manual, completion, colours; and the page about the tree.

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod completions;
mod guides;
mod help;
mod manual;
mod pieces;
mod terminal;
