//! The tunnels to choose from.

use std::fmt::Write as _;

use super::find::FoundTunnel;
use crate::words::{counted_noun, wrapped};

/// How wide a line is, in characters.
const WIDTH: usize = 80;

/// What can be asked of them.
const USAGE: &str = "
pluto-updown explain NAME                   what a tunnel allows
pluto-updown explain FROM TO [SERVICE]      the verdict on a packet (--packet)
";

/// All of them, and what can be asked.
pub(super) fn tunnel_list(found: Vec<FoundTunnel<'_>>) -> String {
    let head = match found.len() {
        0 => "no tunnel is up\n".to_owned(),
        number => format!("{} up\n{}", counted_noun(number, "tunnel"), family_rows(found)),
    };
    head + USAGE
}

/// Those of one connection, of which one is to be named.
pub(super) fn of_connection(name: &str, found: Vec<FoundTunnel<'_>>) -> String {
    let number = counted_noun(found.len(), "tunnel");
    let rows = family_rows(found);
    format!("{number} of {name}; name one by its short name\n{rows}")
}

/// One line each: the short name, the user or else the identity, the far network, what is allowed.
fn family_rows(mut found: Vec<FoundTunnel<'_>>) -> String {
    let key = |found: &FoundTunnel<'_>| {
        let record = found.record;
        let user = record.tunnel.user.as_ref().map(|user| user.as_str().to_owned());
        (
            record.key.connection.clone(),
            user,
            record.tunnel.remote_client.first(),
            record.id.clone(),
        )
    };
    found.sort_by_key(key);
    let rows: Vec<[String; 4]> = found.iter().map(tunnel_row).collect();
    let widths: [usize; 3] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.max().unwrap_or_default().min(28)
    });
    let mut text = String::new();
    for row in &rows {
        let [short, whose, network, allow] = row;
        let [first, second, third] = widths;
        let line = format!("  {short:<first$}  {whose:<second$}  {network:<third$}  {allow}");
        let mut lines = wrapped(&[line.trim_end().to_owned()], WIDTH).into_iter();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

fn tunnel_row(found: &FoundTunnel<'_>) -> [String; 4] {
    let record = found.record;
    let tunnel = &record.tunnel;
    let whose = tunnel
        .user
        .as_ref()
        .map_or_else(|| tunnel.remote_id.to_string(), ToString::to_string);
    [
        record.id.to_string(),
        whose,
        tunnel.remote_client.to_string(),
        record.effective_policy().allow.to_string(),
    ]
}
