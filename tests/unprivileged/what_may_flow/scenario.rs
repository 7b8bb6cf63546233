//! A gateway on which things happen, as the table tells them.

use std::collections::BTreeMap;

use pluto_updown::apply::{ApplyError, Blocked};
use pluto_updown::daemon::{ConnectionName, Tunnel};
use pluto_updown::net::Family;

use super::words::{family, packet, verdict_words};
use crate::support::binary::Call;
use crate::support::gateway::in_family;
use crate::support::model::Verb;
use crate::support::world::{World, libreswan, strongswan};

/// The tunnels that the table declares, each by its name: its line behind the name.
pub(crate) type Tunnels = BTreeMap<String, String>;

/// A gateway, and the family in which the words of the table are taken.
pub(crate) struct Scenario<'a> {
    world: World,
    family: Family,
    tunnels: &'a Tunnels,
}

impl<'a> Scenario<'a> {
    pub(crate) fn new(family: Family, tunnels: &'a Tunnels) -> Self {
        let world = World::with_file("");
        Self { world, family, tunnels }
    }

    fn in_family(&self, text: &str) -> String {
        in_family(text, self.family)
    }

    /// Another settings file.
    pub(crate) fn file(&mut self, text: &str) {
        let text = self.in_family(text).replace(" ; ", "\n");
        self.world.set_file(&text);
    }

    /// The `up` of a tunnel.
    fn up(&self, name: &str) -> Call {
        let line = self.tunnels.get(name).unwrap_or_else(|| panic!("no tunnel {name}"));
        let line = self.in_family(line);
        let words: Vec<_> = line.split(' ').collect();
        let [daemon, kind, reqid, local, remote, variables @ ..] = &words[..] else {
            panic!("{line}")
        };
        let reqid = reqid.parse().expect("a number");
        let call = match *daemon {
            "strongswan" => strongswan(name, reqid, local, remote),
            "libreswan" => libreswan(name, reqid, local, remote),
            other => panic!("{line}: {other}"),
        };
        let call = match *kind {
            "client" => call,
            "host" => call.between_hosts(),
            other => panic!("{line}: {other}"),
        };
        let call = ["PLUTO_ME=192.0.2.1", "PLUTO_PEER=192.0.2.2"]
            .iter()
            .fold(call, |call, variable| set(call, &self.in_family(variable)));
        variables.iter().fold(call, |call, variable| set(call, variable))
    }

    pub(crate) fn tunnel(&self, name: &str) -> Tunnel {
        self.up(name).tunnel()
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// If it does not come about.
    pub(crate) fn make_event(&mut self, text: &str) -> Result<(), String> {
        let (what, whom) = text
            .split_once(": ")
            .map_or((text, None), |(what, whom)| (what, Some(whom)));
        let failure = |error: ApplyError| format!("{text}: {error}");
        match (what, whom) {
            ("file", Some(settings)) => self.file(settings),
            ("up", Some(names)) => self.calls(names, Verb::Up)?,
            ("down", Some(names)) => self.calls(names, Verb::Down)?,
            ("connected", Some(networks)) => {
                let networks = self.in_family(networks);
                self.world.connected = networks
                    .split(' ')
                    .map(|text| text.parse().expect("a network"))
                    .collect();
            }
            ("refused", Some(names)) => match self.calls(names, Verb::Up) {
                Err(_) => {}
                Ok(()) => return Err(format!("{text}: it was not")),
            },
            ("start", None) => drop(self.world.start().map_err(failure)?),
            ("stop", None) => drop(self.world.stop().map_err(failure)?),
            ("unblock", connection) => drop(self.world.unblock(&blocked(connection)).map_err(failure)?),
            ("rules", Some(rules)) => self.restore(rules),
            _ => panic!("nothing that happens: {text}"),
        }
        Ok(())
    }

    fn calls(&mut self, names: &str, verb: Verb) -> Result<(), String> {
        for name in names.split(' ') {
            let call = verb.of_call(self.up(name));
            let done = self.world.call(&call.firewall_action());
            done.map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }

    /// Rules of the administrator's: a table, a colon, and lines for `iptables-restore` between semicolons.
    fn restore(&mut self, rules: &str) {
        let (table, lines) = rules.split_once(": ").expect("a table");
        let text = format!("*{table}\n{}\nCOMMIT\n", self.in_family(lines).replace("; ", "\n"));
        let emulator = self.world.emulator(self.family);
        emulator
            .restore(&text)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }

    /// The verdict on a packet, and what should.
    pub(crate) fn verdict_and_expectation(&mut self, row: &str) -> (String, String) {
        let row = self.in_family(row);
        let (words, expected) = row.split_once(": ").unwrap_or_else(|| panic!("{row}"));
        let packet = packet(words, |name| self.tunnel(name));
        assert_eq!(family(&packet), self.family, "{row}");
        (
            verdict_words(self.world.emulator(self.family), &packet),
            expected.to_owned(),
        )
    }
}

fn blocked(connection: Option<&str>) -> Blocked {
    connection.map_or(Blocked::All, |name| Blocked::By {
        connection: ConnectionName::new(name.as_bytes()).expect("a name"),
        network: name.parse().ok(),
    })
}

fn set(call: Call, variable: &str) -> Call {
    let (name, value) = variable.split_once('=').unwrap_or_else(|| panic!("{variable}"));
    call.with(name, value)
}
