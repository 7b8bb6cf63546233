//! The same pictures as one SVG 1.1 for a tunnel, without anything from outside: boxes, arrows, a
//! legend. It follows a dark screen.

use std::fmt::Write as _;

use super::diagram::{Branch, Diagram, DiagramTone, Stop};
use crate::words::wrapped;

/// How wide a picture is and how high a line of text, in pixels.
const WIDTH: usize = 800;
const LINE: usize = 17;

/// The width of each branch, and the gap between boxes.
const HALF: usize = 390;
const GAP: usize = 24;

/// How many pixels a character takes at most, at 12 pixels of height in a font whose characters are
/// alike wide.
const CHARACTER: usize = 8;

/// How wide the sample of a tone is in the legend, in pixels.
const SAMPLE: usize = 28;

/// The colours on a light screen, and on a dark one. For readers who cannot distinguish them, edges
/// differ too: dashed where other rules decide, thick where no packet passes.
const STYLE: &str = "\
.page{fill:#ffffff}text{fill:#1b1b1b}.line{stroke:#444444}.head{fill:#444444}rect.box{stroke:#444444}
.kernel{fill:#efefef}.open{fill:#d9efd2}.narrow{fill:#fff3c2}.shut{fill:#f6d5d5;stroke-width:3}.left{fill:#ffffff;stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){
.page{fill:#16181c}text{fill:#ececec}.line{stroke:#b5b5b5}.head{fill:#b5b5b5}rect.box{stroke:#b5b5b5}
.kernel{fill:#2a2d33}.open{fill:#1f4a26}.narrow{fill:#554a14}.shut{fill:#5c2326}.left{fill:#16181c}}";

/// What the legend says of each tone, in this order.
const LEGEND: [(DiagramTone, &str); 5] = [
    (DiagramTone::Open, "passes"),
    (DiagramTone::Narrow, "passes in part"),
    (DiagramTone::Shut, "dropped"),
    (DiagramTone::Left, "your rules decide"),
    (DiagramTone::Kernel, "the kernel"),
];

/// Draws pictures of one tunnel, one below the other, with a title and a legend.
pub(super) fn draw_svg(title: &str, diagrams: &[Diagram]) -> String {
    let mut canvas = Canvas::default();
    let mut y = canvas.legend(GAP) + GAP;
    for diagram in diagrams {
        y = canvas.diagram(diagram, y) + 2 * GAP;
    }
    let (width, title) = (WIDTH + 2 * GAP, xml_escaped(title));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" role=\"img\" aria-labelledby=\"title\" font-family=\"monospace\" font-size=\"12\">\n<title id=\"title\">{title}</title>\n<style>{STYLE}</style>\n<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path class=\"head\" d=\"M0 0 L8 4 L0 8 Z\"/></marker></defs>\n<rect class=\"page\" width=\"{width}\" height=\"{y}\"/>\n{}</svg>\n",
        canvas.text
    )
}

#[derive(Default)]
struct Canvas {
    text: String,
}

/// A box's place: its left edge and its width.
#[derive(Clone, Copy)]
struct SvgColumn {
    x: usize,
    width: usize,
}

const WHOLE: SvgColumn = SvgColumn { x: GAP, width: WIDTH };

const HALVES: [SvgColumn; 2] = [
    SvgColumn { x: GAP, width: HALF },
    SvgColumn {
        x: GAP + WIDTH - HALF,
        width: HALF,
    },
];

impl SvgColumn {
    fn middle(self) -> usize {
        self.x + self.width / 2
    }
}

impl Canvas {
    /// What each tone means, beside one another, and where that ends.
    fn legend(&mut self, y: usize) -> usize {
        let mut x = GAP;
        for (tone, words) in LEGEND {
            self.rect(tone, SvgColumn { x, width: SAMPLE }, y, LINE);
            self.draw_words(x + SAMPLE + CHARACTER, y + LINE - 4, words, "normal");
            x += SAMPLE + CHARACTER * (words.len() + 3);
        }
        y + LINE
    }

    fn rect(&mut self, tone: DiagramTone, SvgColumn { x, width }: SvgColumn, y: usize, height: usize) {
        // Writing into a String cannot fail.
        let _ = writeln!(
            self.text,
            "<rect class=\"box {}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\"/>",
            class(tone)
        );
    }

    /// Draws a picture from a height on, and returns where it ends.
    fn diagram(&mut self, diagram: &Diagram, mut y: usize) -> usize {
        self.draw_words(GAP, y, &diagram.title, "bold");
        y += LINE;
        for (number, stop) in diagram.before.iter().enumerate() {
            y = self.stop(stop, WHOLE, y);
            match number + 1 == diagram.before.len() {
                // To the fork, which no arrow points at.
                true => self.draw_line((WHOLE.middle(), y), (WHOLE.middle(), y + GAP)),
                false => self.arrow(WHOLE.middle(), y, y + GAP),
            }
            y += GAP;
        }
        if !diagram.before.is_empty() {
            self.draw_line((HALVES[0].middle(), y), (HALVES[1].middle(), y));
        }
        let [one, other] = &diagram.branches;
        let ends = [self.branch(one, HALVES[0], y), self.branch(other, HALVES[1], y)];
        let end = ends[0].max(ends[1]);
        if diagram.after.is_empty() {
            return end;
        }
        for (column, from) in HALVES.into_iter().zip(ends) {
            self.draw_line((column.middle(), from), (column.middle(), end + GAP));
        }
        y = end + GAP;
        self.draw_line((HALVES[0].middle(), y), (HALVES[1].middle(), y));
        for stop in &diagram.after {
            self.arrow(WHOLE.middle(), y, y + GAP);
            y = self.stop(stop, WHOLE, y + GAP);
        }
        y
    }

    fn branch(&mut self, branch: &Branch, column: SvgColumn, mut y: usize) -> usize {
        // Beside the first arrow, which is two lines high.
        let fits = (column.width / 2 - GAP / 2) / CHARACTER;
        for (number, line) in wrapped(std::slice::from_ref(&branch.whose), fits).iter().enumerate() {
            self.draw_words(column.middle() + GAP / 2, y + LINE * (number + 1), line, "normal");
        }
        for (number, stop) in branch.stops.iter().enumerate() {
            // Beside the first arrow there are words.
            let next = y + if number == 0 { 2 * GAP } else { GAP };
            self.arrow(column.middle(), y, next);
            y = self.stop(stop, column, next);
        }
        y
    }

    /// A box, and where it ends.
    fn stop(&mut self, stop: &Stop, SvgColumn { x, width }: SvgColumn, y: usize) -> usize {
        let fits = width / CHARACTER - 4;
        let title = wrapped(std::slice::from_ref(&stop.title), fits);
        let lines = wrapped(&stop.lines, fits);
        let height = (title.len() + lines.len()) * LINE + LINE / 2;
        self.rect(stop.tone, SvgColumn { x, width }, y, height);
        let titles = title.iter().map(|line| (line, "bold"));
        let all = titles.chain(lines.iter().map(|line| (line, "normal")));
        for (number, (line, weight)) in all.enumerate() {
            self.draw_words(x + GAP / 2, y + LINE * (number + 1), line, weight);
        }
        y + height
    }

    fn draw_words(&mut self, x: usize, y: usize, words: &str, weight: &str) {
        let words = xml_escaped(words);
        let _ = writeln!(
            self.text,
            "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\" xml:space=\"preserve\">{words}</text>"
        );
    }

    fn draw_line(&mut self, from: (usize, usize), to: (usize, usize)) {
        self.draw_stroke(from, to, "");
    }

    fn arrow(&mut self, x: usize, from: usize, to: usize) {
        self.draw_stroke((x, from), (x, to), " marker-end=\"url(#head)\"");
    }

    fn draw_stroke(&mut self, (x1, y1): (usize, usize), (x2, y2): (usize, usize), end: &str) {
        let _ = writeln!(
            self.text,
            "<line class=\"line\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"{end}/>"
        );
    }
}

fn class(tone: DiagramTone) -> &'static str {
    match tone {
        DiagramTone::Kernel => "kernel",
        DiagramTone::Open => "open",
        DiagramTone::Narrow => "narrow",
        DiagramTone::Shut => "shut",
        DiagramTone::Left => "left",
    }
}

/// What is said, with nothing left that means something in XML.
fn xml_escaped(words: &str) -> String {
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
