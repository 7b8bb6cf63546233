//! The calls that real daemons made, from `tests/captures`.

#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::fs;
use std::path::{Path, PathBuf};

use super::binary::Call;

/// The files, by the name and version of the daemon.
pub fn names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter_map(|name| Some(name.strip_suffix(".calls")?.to_owned()))
        .collect();
    assert!(!names.is_empty(), "no captures in {}", folder.display());
    names.sort();
    names
}

/// Where a file is.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/captures/{name}.calls"))
}

/// Every call of a file, in its order.
pub fn calls(name: &str) -> Vec<Call> {
    let path = path(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\n\n").filter_map(call).collect()
}

/// Those of them about this connection.
pub fn calls_of(name: &str, connection: &str) -> Vec<Call> {
    let mut calls = calls(name);
    calls.retain(|call| call.get("PLUTO_CONNECTION") == connection);
    calls
}

/// The first call about this connection with this verb.
pub fn find_call(name: &str, connection: &str, verb: &str) -> Call {
    let mut found = calls_of(name, connection).into_iter();
    found
        .find(|call| call.get("PLUTO_VERB") == verb)
        .unwrap_or_else(|| panic!("{name} has no {verb} of {connection}"))
}

/// A network-to-network tunnel's `up` in the words of libreswan 5.4: one at a time, refused if it fails.
pub fn libreswan_up() -> Call {
    find_call("libreswan-5.4", "net-net", "up-client")
}

/// The same of strongSwan: counted, and never refused.
pub fn strongswan_up() -> Call {
    find_call("strongswan-6.0.1", "net-net", "up-client")
}

/// `up`s of libreswan: of a tunnel with an interface, of one of IPv6, and of one with something in the nat table.
pub fn kinds_of_ups() -> [Call; 3] {
    [
        find_call("libreswan-5.4", "vti", "up-client"),
        find_call("libreswan-5.4", "v6", "up-client-v6"),
        libreswan_up()
            .with("PLUTO_CONNECTION", "private")
            .with("PLUTO_ME", "192.0.2.1")
            .with("PLUTO_MY_CLIENT", "10.0.10.1/32")
            .with("CAT", "YES"),
    ]
}

fn call(block: &str) -> Option<Call> {
    let mut lines = block.lines().skip_while(|line| !line.starts_with('>'));
    let words = lines.next()?.split('[').skip(1);
    let arguments = words.filter_map(|word| Some(word.split_once(']')?.0.into())).collect();
    let variables = lines.filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.into(), value.into())).collect();
    Some(Call { arguments, variables })
}
