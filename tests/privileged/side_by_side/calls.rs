//! Calls as each version makes them: the captured ones with the connection's particulars filled in.

use crate::support::binary::Call;
use crate::support::captures::find_call;

/// A libreswan whose own script there is to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's: `up` comes before `route`, and the family of a call is the hosts'.
    V4_10,
    /// Debian 13's: `up` comes last, and the family of a call is the clients'.
    V5_2,
}

impl Version {
    /// Its captures, and the variable that says where its script is.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::V4_10 => ("libreswan-4.10", "LIBRESWAN_UPDOWN_4_10"),
            Self::V5_2 => ("libreswan-5.2", "LIBRESWAN_UPDOWN_5_2"),
        }
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn from_address(address: &str) -> Self {
        if address.contains(':') { Self::V6 } else { Self::V4 }
    }

    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// What a daemon asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Prepare,
    Route,
    Unroute,
    Up,
    Down,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Route => "route",
            Self::Unroute => "unroute",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A connection's particulars; the rest is as it was captured.
#[derive(Debug, Clone)]
pub struct Connection {
    pub version: Version,
    pub name: String,
    pub interface: &'static str,
    pub me: &'static str,
    pub peer: &'static str,
    pub next_hop: &'static str,
    pub my_client: &'static str,
    pub peer_client: &'static str,
    pub source: Option<&'static str>,
    /// Variables that only some connections have.
    pub more: Vec<(&'static str, &'static str)>,
    pub arguments: Vec<&'static str>,
}

impl Connection {
    /// A network at each end, and a peer on our own link.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            name: "made".to_owned(),
            interface: "w0",
            me: "192.1.2.45",
            peer: "192.1.2.23",
            next_hop: "192.1.2.23",
            my_client: "10.1.0.0/24",
            peer_client: "10.2.0.0/24",
            source: None,
            more: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// The same in IPv6.
    pub fn v6(version: Version) -> Self {
        Self {
            me: "2001:db8:1:2::45",
            peer: "2001:db8:1:2::23",
            next_hop: "2001:db8:1:2::23",
            my_client: "2001:db8:0:1::/64",
            peer_client: "2001:db8:0:2::/64",
            ..Self::new(version)
        }
    }

    pub fn set(mut self, name: &'static str, value: &'static str) -> Self {
        self.more.push((name, value));
        self
    }

    pub fn call(&self, verb: Verb) -> Call {
        let (captures, _) = self.version.names();
        let mut call = find_call(captures, "net-net", &format!("{}-client", verb.word()))
            .with_verb(&self.verb(verb))
            .with("PLUTO_CONNECTION", &self.name)
            .with("PLUTO_INTERFACE", self.interface)
            .with("PLUTO_ME", self.me)
            .with("PLUTO_PEER", self.peer)
            .with("PLUTO_NEXT_HOP", self.next_hop)
            .with("PLUTO_CONN_ADDRFAMILY", Family::from_address(self.me).word());
        call = client(call, "PLUTO_MY_CLIENT", self.my_client);
        call = client(call, "PLUTO_PEER_CLIENT", self.peer_client);
        call = match self.source {
            Some(source) => call.with("PLUTO_MY_SOURCEIP", source),
            // Without a source address there is no word on MOBIKE either.
            None => call.without("PLUTO_MY_SOURCEIP").without("PLUTO_MOBIKE_EVENT"),
        };
        if self.version == Version::V5_2 {
            call = call.with("PLUTO_CLIENT_FAMILY", Family::from_address(self.my_client).word());
        }
        for (name, value) in &self.more {
            call = call.with(name, value);
        }
        call.arguments = self.arguments.iter().map(Into::into).collect();
        call
    }

    /// The verb with its scope and, for IPv6, the suffix that each version gives by another family.
    fn verb(&self, verb: Verb) -> String {
        let own_host = self.my_client.split('/').next() == Some(self.me);
        let scope = if own_host { "host" } else { "client" };
        let family = match self.version {
            Version::V4_10 => Family::from_address(self.me),
            Version::V5_2 => Family::from_address(self.my_client),
        };
        let suffix = match family {
            Family::V4 => "",
            Family::V6 => "-v6",
        };
        format!("{}-{scope}{suffix}", verb.word())
    }

    /// The calls of a connection that comes up.
    pub fn comes_up(&self) -> Vec<Call> {
        let verbs = match self.version {
            Version::V4_10 => [Verb::Up, Verb::Prepare, Verb::Route],
            Version::V5_2 => [Verb::Prepare, Verb::Route, Verb::Up],
        };
        verbs.map(|verb| self.call(verb)).to_vec()
    }

    /// The calls of a connection that goes.
    pub fn goes(&self) -> Vec<Call> {
        [Verb::Down, Verb::Unroute].map(|verb| self.call(verb)).to_vec()
    }
}

/// A client in the three forms that the daemon gives.
fn client(call: Call, name: &str, client: &str) -> Call {
    let (address, length) = client.split_once('/').expect("a network");
    let length: u32 = length.parse().expect("a prefix length");
    let mask = match Family::from_address(address) {
        Family::V4 => std::net::Ipv4Addr::from(u32::MAX.checked_shl(32 - length).unwrap_or(0)).to_string(),
        Family::V6 => std::net::Ipv6Addr::from(u128::MAX.checked_shl(128 - length).unwrap_or(0)).to_string(),
    };
    call.with(name, client)
        .with(&format!("{name}_NET"), address)
        .with(&format!("{name}_MASK"), mask)
}

#[test]
fn made_calls_are_as_captured_ones() {
    for version in [Version::V4_10, Version::V5_2] {
        let (captures, _) = version.names();
        let mut net = Connection::new(version);
        "net-net".clone_into(&mut net.name);
        net.source = Some("10.1.0.1");
        let mut six = Connection::v6(version);
        "v6".clone_into(&mut six.name);
        for (connection, suffix) in [(net, ""), (six, "-v6")] {
            for call in connection.comes_up().into_iter().chain(connection.goes()) {
                let real = find_call(captures, &connection.name, call.get("PLUTO_VERB"));
                assert!(call.get("PLUTO_VERB").ends_with(&format!("client{suffix}")));
                let differing = |name: &&std::ffi::OsString| call.variables.get(*name) != real.variables.get(*name);
                let passing = [
                    "PLUTO_ADDTIME",
                    "PLUTO_SA_REQID",
                    "PLUTO_MY_ID",
                    "PLUTO_PEER_ID",
                    "PLUTO_CONN_POLICY",
                ];
                let passing = passing
                    .into_iter()
                    .chain(["SPI_IN", "SPI_OUT", "PLUTO_INBYTES", "PLUTO_OUTBYTES"]);
                let passing: Vec<_> = passing.collect();
                let names = call.variables.keys().chain(real.variables.keys());
                let names: Vec<_> = names
                    .filter(differing)
                    .filter(|name| !passing.iter().any(|other| other == name))
                    .collect();
                assert!(names.is_empty(), "{captures} {call}: {names:?}");
            }
        }
    }
}
