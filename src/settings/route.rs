//! What an administrator says about routes: whether each tunnel gets one, and words of `ip route`
//! for it.

use std::mem::discriminant;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::net::{Expected, Interface};
use crate::netlink::{Route, RouteOption, RouteTable};

/// Whether a tunnel that needs no route gets one all the same (`--route yes`, `ROUTE=yes`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AlwaysRoute {
    /// It does.
    Yes,
    /// It does not.
    #[default]
    No,
}

/// The arguments after `ip route replace NETWORK` (ip-route(8)): `via`, `dev`, `src`, `mtu`,
/// `metric` (also `preference`), `table`, `onlink`, and what [`RouteOption`] has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteArguments {
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The interface.
    pub interface: Option<Interface>,
    /// The source address of our own packets.
    pub source: Option<IpAddr>,
    /// The greatest packet, in bytes.
    pub mtu: Option<u32>,
    /// The preference; lower is better.
    pub metric: Option<u32>,
    /// The table; the main one if none is said.
    pub table: Option<RouteTable>,
    /// Further options.
    pub options: Vec<RouteOption>,
}

const FORM: Expected = Expected(
    "arguments of ip route: via ADDRESS, dev DEVICE, src ADDRESS, mtu BYTES, advmss BYTES, metric NUMBER, table NUMBER, proto NAME, onlink",
);

impl RouteArguments {
    /// These, and what they do not say from `self`.
    #[must_use]
    pub(crate) fn followed_by(self, later: Self) -> Self {
        Self {
            via: later.via.or(self.via),
            interface: later.interface.or(self.interface),
            source: later.source.or(self.source),
            mtu: later.mtu.or(self.mtu),
            metric: later.metric.or(self.metric),
            table: later.table.or(self.table),
            options: later.options.into_iter().fold(self.options, replace_option),
        }
    }

    /// The route to a network.
    #[must_use]
    pub fn route(self, destination: IpNet) -> Route {
        let Self {
            via,
            interface,
            source,
            mtu,
            metric,
            table,
            options,
        } = self;
        Route {
            destination,
            table: table.unwrap_or_default(),
            via,
            interface,
            source,
            mtu,
            metric,
            options,
        }
    }

    fn parse_words(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "via" => self.via = Some(value.parse().ok()?),
            "dev" => self.interface = Some(value.parse().ok()?),
            "src" => self.source = Some(value.parse().ok()?),
            "mtu" => self.mtu = Some(value.parse().ok()?),
            "metric" | "preference" => self.metric = Some(value.parse().ok()?),
            "table" => self.table = Some(table(value)?),
            "proto" | "protocol" => self.set_option(RouteOption::Proto(value.parse().ok()?)),
            _ => self.set_option(RouteOption::numbered(name, value.parse().ok()?)?),
        }
        Some(())
    }

    fn set_option(&mut self, option: RouteOption) {
        self.options = replace_option(std::mem::take(&mut self.options), option);
    }
}

/// Adds an option, which counts instead of an earlier one of its kind.
fn replace_option(mut options: Vec<RouteOption>, option: RouteOption) -> Vec<RouteOption> {
    options.retain(|other| discriminant(other) != discriminant(&option));
    options.push(option);
    options
}

fn table(text: &str) -> Option<RouteTable> {
    match text {
        "main" => Some(RouteTable::MAIN),
        number => number.parse().ok().map(RouteTable),
    }
}

impl FromStr for RouteArguments {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let mut arguments = Self::default();
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            match word {
                "onlink" => arguments.set_option(RouteOption::Onlink),
                _ => words
                    .next()
                    .and_then(|value| arguments.parse_words(word, value))
                    .ok_or(FORM)?,
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Origin;

    #[test]
    fn words_of_ip_route_are_read() {
        let arguments: RouteArguments = " mtu 1400  metric 5 table 220 onlink ".parse().unwrap();
        assert_eq!(
            arguments,
            RouteArguments {
                mtu: Some(1400),
                metric: Some(5),
                table: Some(RouteTable(220)),
                options: vec![RouteOption::Onlink],
                ..RouteArguments::default()
            }
        );
        assert_eq!("".parse(), Ok(RouteArguments::default()));
    }

    #[test]
    fn a_word_without_a_value_or_without_a_meaning_is_refused() {
        for text in [
            "mtu",
            "mtu x",
            "via",
            "nexthop via 192.0.2.1",
            "dev $(id)",
            "table local; id",
            "proto",
            "proto 256",
            "proto nobody",
            "10.0.0.0/8",
        ] {
            assert_eq!(text.parse::<RouteArguments>(), Err(FORM), "{text:?}");
        }
    }

    #[test]
    fn what_is_said_later_counts() {
        let early: RouteArguments = "mtu 1400 metric 5 proto static".parse().unwrap();
        let late: RouteArguments = "metric 7 proto dhcp".parse().unwrap();
        assert_eq!(early.followed_by(late), "mtu 1400 metric 7 proto dhcp".parse().unwrap());
        let twice: RouteArguments = "advmss 1300 proto static advmss 1200".parse().unwrap();
        assert_eq!(twice, "proto 4 advmss 1200".parse().unwrap());
    }

    #[test]
    fn who_has_put_the_route_in_is_said_by_name_or_number() {
        for text in ["proto static", "proto 4", "protocol static"] {
            let arguments: RouteArguments = text.parse().unwrap();
            assert_eq!(arguments.options, [RouteOption::Proto(Origin(4))], "{text}");
        }
    }
}
