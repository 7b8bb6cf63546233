//! The same pictures as SVG 1.1, without anything from outside: boxes, lines and text.

use std::fmt::Write as _;

use super::diagram::{Branch, Diagram, Stop, Tone};
use crate::words::wrapped;

/// How wide a picture is and how high a line of text, in pixels.
const WIDTH: usize = 800;
const LINE: usize = 17;

/// How wide each of the two ways is; between boxes there is so much.
const HALF: usize = 390;
const GAP: usize = 24;

/// How many pixels a character takes at most, at 12 pixels of height in a font whose characters are alike wide.
const CHARACTER: usize = 8;

/// Draws pictures one below the other.
pub(super) fn draw(diagrams: &[Diagram]) -> String {
    let mut canvas = Canvas::default();
    let mut y = GAP;
    for diagram in diagrams {
        y = canvas.diagram(diagram, y) + 2 * GAP;
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{y}\" viewBox=\"0 0 {0} {y}\" font-family=\"monospace\" font-size=\"12\">\n<rect width=\"{0}\" height=\"{y}\" fill=\"#ffffff\"/>\n{1}</svg>\n",
        WIDTH + 2 * GAP,
        canvas.text
    )
}

#[derive(Default)]
struct Canvas {
    text: String,
}

/// A box's place: its left edge and its width.
#[derive(Clone, Copy)]
struct Column {
    x: usize,
    width: usize,
}

const WHOLE: Column = Column { x: GAP, width: WIDTH };

const HALVES: [Column; 2] = [
    Column { x: GAP, width: HALF },
    Column {
        x: GAP + WIDTH - HALF,
        width: HALF,
    },
];

impl Column {
    fn middle(self) -> usize {
        self.x + self.width / 2
    }
}

impl Canvas {
    /// Draws a picture from a height on, and returns where it ends.
    fn diagram(&mut self, diagram: &Diagram, mut y: usize) -> usize {
        self.words(GAP, y, &diagram.title, "bold");
        y += LINE;
        for stop in &diagram.before {
            y = self.stop(stop, WHOLE, y);
            self.line((WHOLE.middle(), y), (WHOLE.middle(), y + GAP));
            y += GAP;
        }
        if !diagram.before.is_empty() {
            self.line((HALVES[0].middle(), y), (HALVES[1].middle(), y));
        }
        let [one, other] = &diagram.ways;
        let ends = [self.branch(one, HALVES[0], y), self.branch(other, HALVES[1], y)];
        let end = ends[0].max(ends[1]);
        if diagram.after.is_empty() {
            return end;
        }
        for (column, from) in HALVES.into_iter().zip(ends) {
            self.line((column.middle(), from), (column.middle(), end + GAP));
        }
        y = end + GAP;
        self.line((HALVES[0].middle(), y), (HALVES[1].middle(), y));
        for stop in &diagram.after {
            self.arrow(WHOLE.middle(), y, y + GAP);
            y = self.stop(stop, WHOLE, y + GAP);
        }
        y
    }

    fn branch(&mut self, branch: &Branch, column: Column, mut y: usize) -> usize {
        self.words(column.middle() + GAP / 2, y + LINE, &branch.whose, "normal");
        for (number, stop) in branch.stops.iter().enumerate() {
            // Beside the first arrow there are words.
            let next = y + if number == 0 { 2 * GAP } else { GAP };
            self.arrow(column.middle(), y, next);
            y = self.stop(stop, column, next);
        }
        y
    }

    /// A box, and where it ends.
    fn stop(&mut self, stop: &Stop, Column { x, width }: Column, y: usize) -> usize {
        let fits = width / CHARACTER - 4;
        let title = wrapped(std::slice::from_ref(&stop.title), fits);
        let lines = wrapped(&stop.lines, fits);
        let height = (title.len() + lines.len()) * LINE + LINE / 2;
        let fill = fill(stop.tone);
        // Writing into a String cannot fail.
        let _ = writeln!(
            self.text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"#333333\"/>"
        );
        let titles = title.iter().map(|line| (line, "bold"));
        let all = titles.chain(lines.iter().map(|line| (line, "normal")));
        for (number, (line, weight)) in all.enumerate() {
            self.words(x + GAP / 2, y + LINE * (number + 1), line, weight);
        }
        y + height
    }

    fn words(&mut self, x: usize, y: usize, words: &str, weight: &str) {
        let words = escaped(words);
        let _ = writeln!(
            self.text,
            "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\" xml:space=\"preserve\">{words}</text>"
        );
    }

    fn line(&mut self, (x1, y1): (usize, usize), (x2, y2): (usize, usize)) {
        let _ = writeln!(
            self.text,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"#333333\"/>"
        );
    }

    fn arrow(&mut self, x: usize, from: usize, to: usize) {
        self.line((x, from), (x, to));
        let (left, right, top) = (x - 4, x + 4, to - 7);
        let _ = writeln!(
            self.text,
            "<path d=\"M{left} {top} L{right} {top} L{x} {to} Z\" fill=\"#333333\"/>"
        );
    }
}

fn fill(tone: Tone) -> &'static str {
    match tone {
        Tone::Kernel => "#f2f2f2",
        Tone::Open => "#dff0d8",
        Tone::Narrow => "#fff6cc",
        Tone::Shut => "#f2dede",
        Tone::Left => "#ffffff",
    }
}

/// What is said, with nothing left that means something in XML.
fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&apos;"),
            other => text.push(other),
        }
    }
    text
}
