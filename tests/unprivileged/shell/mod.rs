//! The program as somebody meets it who types: help, manual, completion, colours; the page about the tree; and the scripts of contrib.

mod architecture;
mod completions;
mod help;
mod left_out;
mod manual;
mod pages;
mod pieces;
mod scripts;
mod terminal;
