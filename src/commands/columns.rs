//! Text in columns, one line a row, that breaks no address.

/// The cell in a column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// Cut where it is too long, and marked so.
    Text(String),
    /// Never cut: a part of an address is another address.
    Address(String),
    /// At the right of its column.
    Number(String),
}

impl Cell {
    fn content(&self) -> &str {
        match self {
            Self::Text(text) | Self::Address(text) | Self::Number(text) => text,
        }
    }
}

/// A column: its heading, how narrow it may become for others, and how wide. The last one takes
/// what is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableColumn {
    pub(super) heading: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
}

/// What ends a text that is cut.
const CUT: char = '~';

/// The rows below their headings, in lines of at most `width` characters.
///
/// A column is as wide as its content, up to its maximum; if the line is too narrow, columns shrink
/// to their minimum, the widest first. An address that does not fit its column uses the space of
/// the following columns, which move to the next line.
pub(super) fn table_lines(columns: &[TableColumn], rows: &[Vec<Cell>], width: usize) -> Vec<String> {
    let widths = column_widths(columns, rows, width);
    let headings: Vec<_> = columns
        .iter()
        .zip(rows.first().map_or(&[][..], Vec::as_slice))
        .collect();
    let headings: Vec<_> = headings
        .into_iter()
        .map(|(column, below)| match below {
            Cell::Number(_) => Cell::Number(column.heading.to_owned()),
            Cell::Text(_) | Cell::Address(_) => Cell::Text(column.heading.to_owned()),
        })
        .collect();
    std::iter::once(&headings)
        .chain(rows)
        .flat_map(|row| row_lines(row, &widths, width))
        .collect()
}

fn column_widths(columns: &[TableColumn], rows: &[Vec<Cell>], width: usize) -> Vec<usize> {
    let needed = |number: usize, column: &TableColumn| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(number))
            .map(|cell| cell.content().len());
        let needed = cells.chain([column.heading.len()]).max().unwrap_or_default();
        needed.min(column.most)
    };
    let mut widths: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(number, column)| needed(number, column))
        .collect();
    let gaps = columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let spare = |number: &usize| widths[*number].saturating_sub(columns[*number].least);
        let Some(widest) = (0..widths.len()).filter(|number| spare(number) > 0).max_by_key(spare) else {
            break;
        };
        widths[widest] -= 1;
    }
    widths
}

fn row_lines(row: &[Cell], widths: &[usize], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut start) = (String::new(), 0);
    for (cell, column) in row.iter().zip(widths) {
        let text = match cell {
            Cell::Text(text) => cut_text(text, *column),
            Cell::Address(text) => text.clone(),
            Cell::Number(text) => format!("{text:>column$}"),
        };
        let is_taken = !line.is_empty() && line.len() >= start;
        let is_too_far = start + text.len() > width && !line.trim_end().is_empty();
        if is_taken || is_too_far {
            lines.push(std::mem::take(&mut line));
        }
        let at = start.min(width.saturating_sub(text.len()));
        line = format!("{line:<at$}{text}");
        start += column + 1;
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// A text in so many characters. All texts are ASCII: names and identities are escaped when they
/// are read.
fn cut_text(text: &str, width: usize) -> String {
    match text.len() > width {
        true => text.chars().take(width.saturating_sub(1)).chain([CUT]).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [TableColumn; 4] = [
        TableColumn {
            heading: "NAME",
            least: 6,
            most: 12,
        },
        TableColumn {
            heading: "NET",
            least: 8,
            most: 18,
        },
        TableColumn {
            heading: "UP",
            least: 3,
            most: 6,
        },
        TableColumn {
            heading: "ALLOW",
            least: 5,
            most: 60,
        },
    ];

    fn row(name: &str, network: &str, up: &str, allow: &str) -> Vec<Cell> {
        vec![
            Cell::Text(name.to_owned()),
            Cell::Address(network.to_owned()),
            Cell::Number(up.to_owned()),
            Cell::Text(allow.to_owned()),
        ]
    }

    #[test]
    fn a_row_is_a_line_and_texts_are_cut_to_it() {
        let rows = [
            row("a", "10.1.0.0/24", "2m", "all"),
            row(
                "a-very-long-name",
                "10.20.1.0/24",
                "120d",
                "tcp/22, tcp/443, tcp/993, ping",
            ),
        ];
        assert_eq!(
            table_lines(&COLUMNS, &rows, 40),
            [
                "NAME        NET            UP ALLOW",
                "a           10.1.0.0/24    2m all",
                "a-very-lon~ 10.20.1.0/24 120d tcp/22, t~",
            ]
        );
    }

    #[test]
    fn an_address_is_whole_at_every_width() {
        let long = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1234/128";
        for width in 32..=120 {
            let rows = [
                row("office", long, "2h13m", "all"),
                row("b", "10.0.0.0/8", "1s", "none"),
            ];
            let lines = table_lines(&COLUMNS, &rows, width);
            assert!(lines.iter().any(|line| line.contains(long)), "{width}: {lines:#?}");
            for line in lines.iter().filter(|line| !line.contains(long)) {
                assert!(line.len() <= width, "{width}: {lines:#?}");
            }
            assert!(
                lines.iter().any(|line| line.ends_with("2h13m all")),
                "{width}: {lines:#?}"
            );
        }
    }
}
