//! The tunnels to choose from.

use super::find::FoundTunnel;
use crate::commands::columns::{Cell, TableColumn, table_lines};
use crate::commands::status::in_order;
use crate::words::{counted_noun, wrapped};

/// What can be asked of them.
const USAGE: [(&str, &str); 2] = [
    ("pluto-updown explain NAME", "what a tunnel allows"),
    (
        "pluto-updown explain FROM TO [SERVICE]",
        "the verdict on a packet (--packet)",
    ),
];

/// All of them, and what can be asked.
pub(super) fn tunnel_list(found: Vec<FoundTunnel<'_>>, width: usize) -> String {
    let head = match found.len() {
        0 => "no tunnel is up\n".to_owned(),
        number => format!("{} up\n{}", counted_noun(number, "tunnel"), tunnel_rows(found, width)),
    };
    head + "\n" + &usage(width)
}

fn usage(width: usize) -> String {
    let rows = USAGE.map(|(command, what)| {
        let line = format!("{command:<44}{what}");
        match line.len() <= width {
            true => line + "\n",
            false => format!("{command}\n    {what}\n"),
        }
    });
    rows.concat()
}

/// Those of one connection, of which one is to be named.
pub(super) fn of_connection(name: &str, found: Vec<FoundTunnel<'_>>, width: usize) -> String {
    let number = counted_noun(found.len(), "tunnel");
    let head = wrapped(&[format!("{number} of {name}; name one by its short name")], width);
    format!("{}\n{}", head.join("\n"), tunnel_rows(found, width))
}

/// One line each: the id, the user or else the identity, the remote network, what is allowed.
fn tunnel_rows(mut found: Vec<FoundTunnel<'_>>, width: usize) -> String {
    found.sort_by(|a, b| in_order(a.record, b.record));
    let column = |heading, least, most| TableColumn { heading, least, most };
    let columns = [
        column("SHORT NAME", 19, 19),
        column("PEER/USER", 7, 28),
        column("REMOTE NET", 16, 18),
        column("ALLOW", 6, width),
    ];
    let rows: Vec<_> = found.iter().map(tunnel_row).collect();
    table_lines(&columns, &rows, width)
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn tunnel_row(found: &FoundTunnel<'_>) -> Vec<Cell> {
    let record = found.record;
    let tunnel = &record.tunnel;
    let whose = tunnel
        .user
        .as_ref()
        .map_or_else(|| tunnel.remote_id.to_string(), ToString::to_string);
    vec![
        Cell::Text(record.id.to_string()),
        Cell::Text(whose),
        Cell::Address(tunnel.remote_client.to_string()),
        Cell::Text(record.effective_policy().allow.to_string()),
    ]
}
