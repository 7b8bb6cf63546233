//! A picture in plain text, at most 80 characters wide.

use super::diagram::{Branch, Diagram, Stop};
use crate::words::wrapped;

/// How wide the picture is at most, in characters.
const WIDEST: usize = 78;

/// Where things are in a picture, in characters.
#[derive(Debug, Clone, Copy)]
struct Page {
    /// How wide it is.
    width: usize,
    /// How wide each of the two branches is.
    half: usize,
}

impl Page {
    fn new(width: usize) -> Self {
        let width = width.min(WIDEST);
        Self {
            width,
            half: (width - 2) / 2,
        }
    }

    /// How far the second branch is from the left.
    fn second(self) -> usize {
        self.width - self.half
    }

    /// Where the lines between boxes are: of the whole.
    fn middle(self) -> usize {
        self.width / 2
    }

    /// And of each branch.
    fn middles(self) -> [usize; 2] {
        [self.half / 2, self.second() + self.half / 2]
    }
}

/// Draws it in lines of at most so many characters.
pub(super) fn draw_text(diagram: &Diagram, width: usize) -> String {
    let page = Page::new(width);
    let mut lines = wrapped(std::slice::from_ref(&diagram.title), page.width);
    lines.push(String::new());
    for stop in &diagram.before {
        lines.extend(box_lines(stop, page.width));
        lines.push(marks(&[(page.middle(), '|')]));
    }
    if !diagram.before.is_empty() {
        lines.push(fork(page));
    }
    let goes_on = if diagram.after.is_empty() { ' ' } else { '|' };
    lines.extend(branch_lines(page, &diagram.branches, goes_on));
    if !diagram.after.is_empty() {
        lines.push(fork(page));
    }
    for stop in &diagram.after {
        lines.push(marks(&[(page.middle(), 'v')]));
        lines.extend(box_lines(stop, page.width));
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

fn fork(page: Page) -> String {
    let [left, right] = page.middles();
    let corner = |column: usize| column == left || column == right || column == page.middle();
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
    let body = stop.lines.iter().flat_map(|line| body_lines(line, inner - 2));
    let body = body.map(|line| format!("  {line}"));
    lines.extend(title.into_iter().chain(body).map(|line| format!("| {line:<inner$} |")));
    lines.push(edge);
    lines
}

/// A line in a box. A chain's name stays beside the `>` before it, also where it has to be broken.
fn body_lines(line: &str, width: usize) -> Vec<String> {
    match line.strip_prefix("> ") {
        None => wrapped(&[line.to_owned()], width),
        Some(chain) => {
            let parts = wrapped(&[chain.to_owned()], width - 2).into_iter().enumerate();
            let mark = |number| if number == 0 { '>' } else { ' ' };
            parts.map(|(number, part)| format!("{} {part}", mark(number))).collect()
        }
    }
}

/// The two branches beside each other. If they join again, the shorter one's line continues to the
/// end of the longer one.
fn branch_lines(page: Page, branches: &[Branch; 2], goes_on: char) -> Vec<String> {
    let [one, other] = branches.each_ref().map(|branch| column(page, branch));
    let height = one.len().max(other.len());
    let filled = |column: &[String], number: usize| {
        let line = column.get(number).cloned();
        line.unwrap_or_else(|| marks(&[(page.half / 2, goes_on)]))
    };
    let second = page.second();
    (0..height)
        .map(|number| format!("{:<second$}{}", filled(&one, number), filled(&other, number)))
        .collect()
}

fn column(page: Page, branch: &Branch) -> Vec<String> {
    let mut lines = Vec::new();
    for line in wrapped(std::slice::from_ref(&branch.whose), page.half) {
        let indent = page.half.saturating_sub(line.len()) / 2;
        lines.push(format!("{}{line}", " ".repeat(indent)));
    }
    for stop in &branch.stops {
        lines.push(marks(&[(page.half / 2, 'v')]));
        lines.extend(box_lines(stop, page.half));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_stays_beside_its_mark_where_its_name_has_to_be_broken() {
        assert_eq!(
            body_lines("> PLUTO-FI-10.200.64.0-18", 30),
            ["> PLUTO-FI-10.200.64.0-18"]
        );
        assert_eq!(
            body_lines("> PLUTO-FI-10.200.64.0-18", 20),
            ["> PLUTO-FI-10.200.64", "  .0-18"]
        );
        assert_eq!(body_lines("some words here", 10), ["some words", "here"]);
    }
}
