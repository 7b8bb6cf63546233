//! A picture in plain text, at most 80 characters wide.

use super::diagram::{Branch, Diagram, Stop};
use crate::words::wrapped;

/// How wide the picture is, in characters.
const WIDTH: usize = 78;

/// How wide each of the two ways is, and how far the second one is from the left.
const HALF: usize = 38;
const SECOND: usize = WIDTH - HALF;

/// Where the lines between boxes are: of the whole, and of each way.
const MIDDLE: usize = WIDTH / 2;
const MIDDLES: [usize; 2] = [HALF / 2, SECOND + HALF / 2];

/// Draws it.
pub(super) fn draw_text(diagram: &Diagram) -> String {
    let mut lines = vec![diagram.title.clone(), String::new()];
    for stop in &diagram.before {
        lines.extend(box_lines(stop, WIDTH));
        lines.push(marks(&[(MIDDLE, '|')]));
    }
    if !diagram.before.is_empty() {
        lines.push(fork());
    }
    let goes_on = if diagram.after.is_empty() { ' ' } else { '|' };
    lines.extend(branch_lines(&diagram.ways, goes_on));
    if !diagram.after.is_empty() {
        lines.push(fork());
    }
    for stop in &diagram.after {
        lines.push(marks(&[(MIDDLE, 'v')]));
        lines.extend(box_lines(stop, WIDTH));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A line with some characters in their columns.
fn marks(marks: &[(usize, char)]) -> String {
    let width = marks.iter().map(|(column, _)| column + 1).max().unwrap_or_default();
    let at = |column: usize| {
        marks
            .iter()
            .find(|(other, _)| *other == column)
            .map_or(' ', |(_, mark)| *mark)
    };
    (0..width).map(at).collect()
}

fn fork() -> String {
    let [left, right] = MIDDLES;
    let corner = |column: usize| column == left || column == right || column == MIDDLE;
    (0..=right)
        .map(|column| match column {
            column if corner(column) => '+',
            column if column < left => ' ',
            _ => '-',
        })
        .collect()
}

fn box_lines(stop: &Stop, width: usize) -> Vec<String> {
    let inner = width - 4;
    let edge = format!("+{}+", "-".repeat(width - 2));
    let mut lines = vec![edge.clone()];
    let title = wrapped(std::slice::from_ref(&stop.title), inner);
    let body = wrapped(&stop.lines, inner - 2)
        .into_iter()
        .map(|line| format!("  {line}"));
    lines.extend(title.into_iter().chain(body).map(|line| format!("| {line:<inner$} |")));
    lines.push(edge);
    lines
}

/// The two ways beside each other. Where they meet again, the shorter one's line goes on to the end
/// of the other.
fn branch_lines(ways: &[Branch; 2], goes_on: char) -> Vec<String> {
    let [one, other] = ways.each_ref().map(column);
    let height = one.len().max(other.len());
    let filled = |column: &[String], number: usize| {
        let line = column.get(number).cloned();
        line.unwrap_or_else(|| marks(&[(HALF / 2, goes_on)]))
    };
    (0..height)
        .map(|number| format!("{:<SECOND$}{}", filled(&one, number), filled(&other, number)))
        .collect()
}

fn column(branch: &Branch) -> Vec<String> {
    let indent = HALF.saturating_sub(branch.whose.len()) / 2;
    let mut lines = vec![format!("{}{}", " ".repeat(indent), branch.whose)];
    for stop in &branch.stops {
        lines.push(marks(&[(HALF / 2, 'v')]));
        lines.extend(box_lines(stop, HALF));
    }
    lines
}
