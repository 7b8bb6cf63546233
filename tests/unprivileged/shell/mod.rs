//! The program as somebody meets it who types: help, manual, completion, colours; and the page about the tree.

mod architecture;
mod completions;
mod help;
mod manual;
mod pieces;
mod terminal;
