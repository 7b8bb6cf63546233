//! What a call logs: to which facility of syslog, and in which form.

use std::os::unix::net::UnixDatagram;

use pluto_updown::netfilter::Backend;

use crate::support::captures::{libreswan_up, strongswan_up};
use crate::support::namespace::Namespace;
use crate::support::syslog::{DAEMON_ERR, LOCAL0_NOTICE, Syslog};

/// A line without its time and process number: `<133>vpn: + ...`.
fn without_time_and_pid(line: &str) -> String {
    let (priority, rest) = line.split_at(line.find('>').expect("a priority") + 1);
    // RFC 3164: "Mmm dd hh:mm:ss " has 16 bytes.
    let (tag, text) = rest[16..].split_once("]: ").expect("a tag");
    let (name, pid) = tag.split_once('[').expect("a process number");
    assert!(pid.parse::<u32>().is_ok(), "{line}");
    format!("{priority}{name}: {text}")
}

fn timeless_lines(syslog: &Syslog) -> Vec<String> {
    syslog.lines().iter().map(|line| without_time_and_pid(line)).collect()
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_tunnel_is_logged_in_the_form_of_the_stock_script() {
    let machine = Namespace::bare(Backend::Nft);
    let syslog = Syslog::new(&machine);
    let roadwarrior = strongswan_up()
        .with("PLUTO_PEER_CLIENT", "192.1.2.45/32")
        .with("PLUTO_PEER_ID", "C=CH, CN=\u{1b}[2J road\nwarrior");
    machine.hook().expect_success(&strongswan_up());
    machine.hook().expect_success(&strongswan_up().opposite());
    machine.hook().expect_success(&roadwarrior);
    let peer = strongswan_up().get("PLUTO_PEER").to_owned();
    let me = strongswan_up().get("PLUTO_ME").to_owned();
    let line = |sign: char| {
        let up = strongswan_up();
        let [id, net, own] =
            ["PLUTO_PEER_ID", "PLUTO_PEER_CLIENT", "PLUTO_MY_CLIENT"].map(|name| up.get(name).to_owned());
        format!("{LOCAL0_NOTICE}vpn: {sign} {id} {net} == {peer} -- {me} == {own}")
    };
    let lines = timeless_lines(&syslog);
    assert_eq!(lines[..2], [line('+'), line('-')]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[2].starts_with(&format!("{LOCAL0_NOTICE}vpn: + C=CH, CN=")),
        "{}",
        lines[2]
    );
    assert!(
        lines[2].bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{:?}",
        lines[2]
    );
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_failure_goes_to_syslog_and_to_standard_error_in_the_same_words() {
    let machine = Namespace::bare(Backend::Nft);
    let syslog = Syslog::new(&machine);
    let ending = machine
        .hook()
        .call(&libreswan_up().with("PLUTO_MY_CLIENT", "x".repeat(400)));
    ending.assert_refused(1, &["up-client net-net failed: ", "PLUTO_MY_CLIENT"]);
    let output = ending.err_text();
    assert_eq!(timeless_lines(&syslog), [format!("{DAEMON_ERR}{}", output.trim_end())]);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_dry_run_and_a_command_log_nothing_to_syslog() {
    let machine = Namespace::bare(Backend::Nft);
    let syslog = Syslog::new(&machine);
    let dry = machine.hook().word("--dry-run");
    assert_eq!(dry.call(&libreswan_up()).code, Some(0));
    dry.call(&libreswan_up().without("PLUTO_MY_CLIENT"))
        .assert_refused(1, &["PLUTO_MY_CLIENT"]);
    machine.settings("nonsense");
    assert_eq!(machine.hook().operate(&["start"]).code, Some(2));
    assert_eq!(syslog.lines(), [""; 0]);
}

#[test]
#[ignore = "needs root and iptables: run by contrib/test"]
fn a_syslog_that_nobody_reads_stops_no_call() {
    let machine = Namespace::bare(Backend::Nft);
    let syslog = Syslog::new(&machine);
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a socket that does not wait");
    while filler.send_to(b"full", syslog.path()).is_ok() {}
    for up in [libreswan_up(), strongswan_up()] {
        for call in [up.clone(), up.opposite()] {
            machine.hook().expect_success(&call);
        }
    }
    assert!(syslog.lines().iter().all(|line| line == "full"));
}
