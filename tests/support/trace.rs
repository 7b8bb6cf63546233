//! The way of a packet through the chains: one table ([`trace`], [`trace_chain`]), or all of them ([`trace_packet`]).

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of this module")]

use super::emulator::{Emulator, Kind, Table, append_line};
use super::packet::{AH, ConnectionDirection, ConnectionState, Packet, To};
use super::pattern::{Direction, Family};
use super::rule::{Mss, ParsedRule, Target};
use std::net::IpAddr;

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Reject,
    /// Its source or its destination is this from now on.
    Translate(Direction, IpAddr),
    /// Its source is the address of the interface from now on.
    Masquerade,
    /// It came to the end of the built-in chain: the rules leave it to the administrator.
    Policy,
    /// It came to the end of the user chain in which the walk began: whoever jumped there has it back.
    Return,
}

/// The way of a packet through the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub verdict: Verdict,
    /// Chain and index (from 0, as in [`Emulator::rules`]) of each rule looked at.
    pub looked_at: Vec<(String, usize)>,
    /// The rules that matched, written as `-A CHAIN rule`.
    pub matched: Vec<String>,
    /// Those of them with a limit, which match no more when they matched often.
    pub limited: Vec<String>,
    /// The rule that ended the walk; none when the end of a chain did. With [`Verdict::Policy`] and [`Verdict::Return`] it is a `-j RETURN`.
    pub decided_by: Option<String>,
    /// The prefixes of the lines in the kernel's log; empty for a line without one.
    pub logs: Vec<String>,
    /// What happened to the MSS, in this order.
    pub mss: Vec<Mss>,
}

impl Trace {
    fn new() -> Self {
        Self {
            verdict: Verdict::Policy,
            looked_at: Vec::new(),
            matched: Vec::new(),
            limited: Vec::new(),
            decided_by: None,
            logs: Vec::new(),
            mss: Vec::new(),
        }
    }

    /// How many rules the packet was held against.
    pub fn cost(&self) -> usize {
        self.looked_at.len()
    }

    /// How many copies of the packet went to a log group.
    pub fn copies(&self) -> usize {
        self.matched.iter().filter(|rule| rule.contains(" -j NFLOG ")).count()
    }
}

/// What the packet does behind a rule that was looked at.
enum Move {
    NextRule,
    LeaveChain,
    Jump(String),
    Goto(String),
    End(Verdict),
}

/// Sends the packet through the filter table.
pub fn trace(tables: &Emulator, packet: &Packet) -> Trace {
    trace_chain(tables, Kind::Filter, packet.built_in_chain(), packet)
}

/// Sends the packet through a chain, built-in or not, as the packet is; see [`trace_packet`] for what a hook can not see.
pub fn trace_chain(tables: &Emulator, kind: Kind, chain: &str, packet: &Packet) -> Trace {
    whatever_its_mark(packet, |packet| walk(tables.table(kind), chain, packet))
}

/// The same for a packet on which somebody has set every bit of the mark in PREROUTING: it is one way of a packet, or the rules take another's
/// mark for their own.
fn whatever_its_mark<T: PartialEq + std::fmt::Debug>(packet: &Packet, follow: impl Fn(&Packet) -> T) -> T {
    let trace = follow(packet);
    let marked = Packet {
        mark: u32::MAX,
        ..packet.clone()
    };
    assert_eq!(follow(&marked), trace, "with every bit of the mark set: {packet:#?}");
    trace
}

/// The first packet of a connection as it is behind PREROUTING of the nat table: whether it goes to the gateway is decided by the destination
/// that it has then.
pub fn before_routing(tables: &Emulator, packet: &Packet) -> Packet {
    let verdict = walk(tables.table(Kind::Nat), "PREROUTING", packet).verdict;
    translated(packet, verdict)
}

/// The first packet of a connection as it is behind POSTROUTING of the nat table.
pub fn after_routing(tables: &Emulator, packet: &Packet) -> Packet {
    let verdict = walk(tables.table(Kind::Nat), "POSTROUTING", packet).verdict;
    translated(packet, verdict)
}

fn translated(packet: &Packet, verdict: Verdict) -> Packet {
    let mut packet = packet.clone();
    let source = match verdict {
        Verdict::Translate(Direction::In, address) => {
            packet
                .requested
                .get_or_insert((packet.destination, packet.destination_port));
            packet.destination = address;
            packet.destination_translated = true;
            None
        }
        Verdict::Translate(Direction::Out, address) => Some(address),
        Verdict::Masquerade => Some(packet.device_address.unwrap_or(packet.source)),
        Verdict::Accept | Verdict::Drop | Verdict::Reject | Verdict::Policy | Verdict::Return => None,
    };
    if let Some(source) = source {
        packet.source = source;
        packet.source_translated = true;
        packet.replies_to = Some(source);
    }
    packet
}

fn walk(table: &Table, first: &str, packet: &Packet) -> Trace {
    let mut walker = packet.clone();
    let trace = walk_on(table, first, &mut walker);
    assert_eq!(
        walker.mark & !packet.mark,
        0,
        "nobody behind us meets a bit of ours: {packet:#?}"
    );
    trace
}

fn walk_on(table: &Table, first: &str, packet: &mut Packet) -> Trace {
    check_family(table, packet);
    let mut trace = Trace::new();
    // The return addresses: only -j leaves one. So a chain reached by -g ends as the
    // chain that held the goto would have ended.
    let mut callers = Vec::new();
    let mut here = (first.to_owned(), 0);
    loop {
        let next = look_at(table, packet, &here, &mut trace);
        here.1 += 1;
        match next {
            Move::NextRule => {}
            Move::Jump(chain) => callers.push(std::mem::replace(&mut here, (chain, 0))),
            Move::Goto(chain) => here = (chain, 0),
            Move::LeaveChain => match callers.pop() {
                Some(caller) => here = caller,
                None => {
                    let is_user = !table.is_built_in(first);
                    trace.verdict = if is_user { Verdict::Return } else { Verdict::Policy };
                    trace.decided_by = last_matched(&trace).filter(|_| !ended(table, &here));
                    return trace;
                }
            },
            Move::End(verdict) => {
                let decided_by = last_matched(&trace);
                return Trace {
                    verdict,
                    decided_by,
                    ..trace
                };
            }
        }
    }
}

fn last_matched(trace: &Trace) -> Option<String> {
    trace.matched.last().cloned()
}

/// Whether the rule before this place is behind the last one of the chain: then no rule left the chain.
fn ended(table: &Table, here: &(String, usize)) -> bool {
    here.1 > table.parsed_rules(&here.0).len()
}

/// Holds the packet against one rule; behind the last rule the chain is left.
fn look_at(table: &Table, packet: &mut Packet, here: &(String, usize), trace: &mut Trace) -> Move {
    let (chain, index) = here;
    let Some(rule) = table.parsed_rules(chain).get(*index) else {
        return Move::LeaveChain;
    };
    trace.looked_at.push(here.clone());
    if !matches(rule, packet) {
        return Move::NextRule;
    }
    let text = append_line(chain, &table.rules(chain)[*index]);
    if rule.is_limited() {
        trace.limited.push(text.clone());
    }
    trace.matched.push(text);
    rule.target
        .as_ref()
        .map_or(Move::NextRule, |target| apply_target(target, packet, trace))
}

fn apply_target(target: &Target, packet: &mut Packet, trace: &mut Trace) -> Move {
    match target {
        Target::Mark(bits) => {
            packet.mark = bits.set(packet.mark);
            Move::NextRule
        }
        Target::Log(prefix) => {
            trace.logs.push(prefix.clone());
            Move::NextRule
        }
        Target::TcpMss(mss) => {
            trace.mss.push(*mss);
            Move::NextRule
        }
        Target::Nflog(..) => Move::NextRule,
        Target::Snat(address) => Move::End(Verdict::Translate(Direction::Out, *address)),
        Target::Dnat(address) => Move::End(Verdict::Translate(Direction::In, *address)),
        Target::Masquerade => Move::End(Verdict::Masquerade),
        Target::Accept => Move::End(Verdict::Accept),
        Target::Drop => Move::End(Verdict::Drop),
        Target::Reject => Move::End(Verdict::Reject),
        Target::Return => Move::LeaveChain,
        Target::Jump(chain) => Move::Jump(chain.clone()),
        Target::Goto(chain) => Move::Goto(chain.clone()),
    }
}

/// A packet of the other family never meets this table: such a question is a slip.
fn check_family(table: &Table, packet: &Packet) {
    let family = Family::of_address(packet.source);
    assert_eq!(
        family,
        Family::of_address(packet.destination),
        "a packet has one family"
    );
    if let Some(of_table) = table.family() {
        assert_eq!(family, of_table, "the table is of the other family");
    }
}

/// Whether every condition of the rule holds for the packet.
fn matches(rule: &ParsedRule, packet: &Packet) -> bool {
    // -p 0 is how iptables writes "any protocol".
    let protocol = rule.protocol.filter(|protocol| *protocol != 0);
    // ip6tables-legacy takes AH for one of the headers that it looks behind.
    let is_seen = packet.protocol != AH || Family::of_address(packet.source) == Family::V4;
    let source = rule.source.as_ref();
    let destination = rule.destination.as_ref();
    let in_device = rule.in_device.as_ref();
    let out_device = rule.out_device.as_ref();
    protocol.is_none_or(|protocol| protocol == packet.protocol && is_seen)
        && source.is_none_or(|net| net.holds(|net| net.contains(packet.source)))
        && destination.is_none_or(|net| net.holds(|net| net.contains(packet.destination)))
        && in_device.is_none_or(|interface| interface.holds(|interface| interface.matches(packet.in_device())))
        && out_device.is_none_or(|interface| interface.holds(|interface| interface.matches(packet.out_device())))
        && rule.matches.iter().all(|one| one.matches(packet))
}

/// What a table did to the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    Source(IpAddr),
    Destination(IpAddr),
    /// The source is the address of the interface.
    Masquerade,
}

/// A table that the packet came to, by which built-in chain, and its way through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableTrace {
    pub kind: Kind,
    pub chain: &'static str,
    pub trace: Trace,
}

/// What decided over a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub kind: Kind,
    pub chain: &'static str,
    /// Written as `-A CHAIN rule`; none when it was left to the policy of the chain.
    pub rule: Option<String>,
}

/// The way of a packet through all tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketTrace {
    /// Accept, Drop or Reject, or Policy: the filter table left it to the administrator, or another table's policy ended it.
    pub verdict: Verdict,
    /// Whether it got to the end, the policies considered.
    pub passes: bool,
    /// What ended the journey, or else what the filter table did.
    pub decided_by: Decision,
    pub hooks: Vec<TableTrace>,
    /// The packet as it was when its journey ended.
    pub packet: Packet,
}

impl PacketTrace {
    fn traces(&self) -> impl Iterator<Item = &Trace> {
        self.hooks.iter().map(|hook| &hook.trace)
    }

    /// How many rules the packet was held against.
    pub fn cost(&self) -> usize {
        self.traces().map(Trace::cost).sum()
    }

    /// The prefixes of the lines in the kernel's log.
    pub fn logs(&self) -> Vec<&str> {
        self.traces()
            .flat_map(|trace| &trace.logs)
            .map(String::as_str)
            .collect()
    }

    /// How many copies of the packet went to a log group.
    pub fn copies(&self) -> usize {
        self.traces().map(Trace::copies).sum()
    }

    pub fn mss(&self) -> Vec<Mss> {
        self.traces().flat_map(|trace| trace.mss.clone()).collect()
    }

    /// The rules that matched, of all tables.
    pub fn matched(&self) -> Vec<&str> {
        let matched = self.traces().flat_map(|trace| &trace.matched);
        matched.map(String::as_str).collect()
    }

    /// Those of them with a limit.
    pub fn limited(&self) -> Vec<&str> {
        let limited = self.traces().flat_map(|trace| &trace.limited);
        limited.map(String::as_str).collect()
    }

    pub fn translations(&self) -> Vec<Translation> {
        let translation = |trace: &Trace| match trace.verdict {
            Verdict::Translate(Direction::In, address) => Some(Translation::Destination(address)),
            Verdict::Translate(Direction::Out, address) => Some(Translation::Source(address)),
            Verdict::Masquerade => Some(Translation::Masquerade),
            Verdict::Accept | Verdict::Drop | Verdict::Reject | Verdict::Policy | Verdict::Return => None,
        };
        self.traces().filter_map(translation).collect()
    }

    /// The way through one table by one built-in chain, if the packet came there.
    pub fn trace_in(&self, kind: Kind, chain: &str) -> Option<&Trace> {
        let mut hooks = self.hooks.iter();
        let hook = hooks.find(|hook| hook.kind == kind && hook.chain == chain);
        hook.map(|hook| &hook.trace)
    }
}

/// The tables and built-in chains on the way of a packet, in the kernel's order.
fn hook_order(packet: &Packet) -> &'static [(Kind, &'static str)] {
    use Kind::{Filter, Mangle, Nat};
    match packet.built_in_chain() {
        "INPUT" => &[
            (Mangle, "PREROUTING"),
            (Nat, "PREROUTING"),
            (Mangle, "INPUT"),
            (Filter, "INPUT"),
            (Nat, "INPUT"),
        ],
        "OUTPUT" => &[
            (Mangle, "OUTPUT"),
            (Nat, "OUTPUT"),
            (Filter, "OUTPUT"),
            (Mangle, "POSTROUTING"),
            (Nat, "POSTROUTING"),
        ],
        _ => &[
            (Mangle, "PREROUTING"),
            (Nat, "PREROUTING"),
            (Mangle, "FORWARD"),
            (Filter, "FORWARD"),
            (Mangle, "POSTROUTING"),
            (Nat, "POSTROUTING"),
        ],
    }
}

/// The packet as a hook sees it. Before the routing nobody knows by which interface it will leave, and the first to see an answer see
/// it before the translation back.
fn seen_by(chain: &str, packet: &Packet) -> Packet {
    let mut seen = packet.clone();
    if chain == "PREROUTING" {
        seen.to = To::Local;
        if seen.direction == ConnectionDirection::Reply {
            seen.destination = seen.reply_destination();
        }
    }
    seen
}

/// Sends the packet through all tables until one of them, or a policy, ends its journey.
///
/// The tables of nat see the first packet of a connection only. For the others it is said in the packet what was done to their
/// connection, and their addresses are those inside the gateway. Where the packet goes is said in it too, whatever nat makes of its
/// destination. (With nft the kernel looks into nat only when some rule or translation asks for connections.)
pub fn trace_packet(tables: &Emulator, packet: &Packet) -> PacketTrace {
    whatever_its_mark(packet, |marked| {
        let mut packet_trace = follow(tables, marked);
        packet_trace.packet.mark = packet.mark;
        packet_trace
    })
}

fn follow(tables: &Emulator, packet: &Packet) -> PacketTrace {
    let is_first = packet.state == ConnectionState::New && packet.direction == ConnectionDirection::Original;
    let mut packet_trace = PacketTrace {
        verdict: Verdict::Policy,
        passes: true,
        decided_by: Decision {
            kind: Kind::Filter,
            chain: packet.built_in_chain(),
            rule: None,
        },
        hooks: Vec::new(),
        packet: packet.clone(),
    };
    let hooks = hook_order(packet)
        .iter()
        .filter(|(kind, _)| is_first || *kind != Kind::Nat);
    for (kind, chain) in hooks {
        let table = tables.table(*kind);
        let trace = walk(table, chain, &seen_by(chain, &packet_trace.packet));
        let ends = match trace.verdict {
            Verdict::Drop | Verdict::Reject => true,
            Verdict::Policy => table.policy(chain) == "DROP",
            Verdict::Accept | Verdict::Translate(..) | Verdict::Masquerade | Verdict::Return => false,
        };
        if ends || *kind == Kind::Filter {
            packet_trace.verdict = trace.verdict;
            packet_trace.decided_by = Decision {
                kind: *kind,
                chain,
                rule: trace.decided_by.clone(),
            };
        }
        packet_trace.packet = translated(&packet_trace.packet, trace.verdict);
        packet_trace.hooks.push(TableTrace {
            kind: *kind,
            chain,
            trace,
        });
        if ends {
            packet_trace.passes = false;
            break;
        }
    }
    packet_trace
}
