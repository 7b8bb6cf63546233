//! The rules of the parts that tunnels share. Each order that carries security has its reason
//! beside it.
//!
//! ```text
//! INPUT ─── PLUTO-INPUT ─── blocked pairs · interfaces · by IPsec ─▶ PLUTO-I · unencrypted ─▶ PLUTO-CLEAR-IN ─── gateway
//! OUTPUT ── PLUTO-OUTPUT ── blocked pairs · interfaces · by IPsec ─▶ PLUTO-O · unencrypted ─▶ PLUTO-CLEAR-OUT ── gateway
//! FORWARD ─ PLUTO-FORWARD ─ interfaces, by IPsec ─▶ PLUTO-DECRYPTED · into IPsec ─▶ PLUTO-FO · unencrypted ─▶ PLUTO-CLEAR ─ interfaces · blocked pairs · gateway
//!
//! PLUTO-DECRYPTED ── clear the bit · PLUTO-FI ── ... ── a tunnel's chain ─▶ PLUTO-ONWARD: ACCEPT, or set the bit
//!                    without the bit ─▶ PLUTO-RF, which drops what came out of a restricted tunnel
//!                                     ─▶ PLUTO-RO, which drops what goes into one that allows nothing
//!                    clear the bit ─▶ PLUTO-FO
//! PLUTO-I ────────── the tunnels · PLUTO-RI, which does the same
//! ```
//!
//! # The chains are a tree
//!
//! No tunnel's chain jumps to a dispatcher. Kernels without upstream commit 8e1a1bc4f5a4 (before
//! 6.6.121, 6.12.66 and 6.18.6) validate a chain again for each jump to it, at every commit that
//! adds a rule. If the inbound tunnel's chain jumped to the outbound tunnel's dispatcher, the cost
//! of an `up` would grow with the square of the number of tunnels. So the inbound tunnel sets a bit
//! of the packet's mark, and `PLUTO-DECRYPTED` jumps to the outbound tunnel's dispatcher.
//!
//! # What the bit means, and where
//!
//! The bit means "the inbound tunnel allows the packet", and only between two rules of
//! `PLUTO-DECRYPTED`. It is cleared before the inbound tunnel's rules, whoever has set it, and
//! again before the outbound tunnel's rules. The only other rule that trusts it is the one that
//! tests the interface a packet came in by, and it clears the bit first. A packet without the bit
//! returns to the administrator's rules, unless it came out of a restricted tunnel or goes into one
//! that allows nothing. So a missing match is never taken for permission.
//!
//! Blocked pairs and tunnel interfaces are added and removed at any time. Their order does not
//! matter: a block lets packets pass that arrive or leave by a tunnel's interface, and a packet
//! that no tunnel's interface takes returns to the blocks.

use std::net::IpAddr;
use std::num::NonZeroU8;

use super::chain_fragment::ChainFragment;
use super::dispatch::{DispatchBucket, OptionalChains, Precedence};
use super::tunnel::PacketPath;
use crate::net::{
    Family, Icmp, Interface, InterfaceWildcard, MarkBit, Network, PortProtocol, Ports, Protocol, Traffic,
};
use crate::netfilter::{
    BuiltIn, ChainName, CtState, Direction, InterfaceMatch, Match, PolicyMatch, Rule, Table, Target,
};
use crate::settings::JumpPlace;

pub(crate) fn onward_chain() -> ChainName {
    ChainName::literal("PLUTO-ONWARD")
}

/// What came by IPsec, or by a tunnel's interface, and is forwarded.
pub(crate) fn decrypted_chain() -> ChainName {
    ChainName::literal("PLUTO-DECRYPTED")
}

/// The chain that tests whether a packet came in by a tunnel's interface.
pub(crate) fn interfaces_chain() -> ChainName {
    ChainName::literal("PLUTO-INTERFACES")
}

/// The chain that sets the bit, and nothing else: `-g` to it allows the packet and ends the chain
/// that contains the `-g`.
pub(crate) fn mark_chain() -> ChainName {
    ChainName::literal("PLUTO-MARK")
}

pub(crate) fn unencrypted_chain() -> ChainName {
    ChainName::literal("PLUTO-CLEAR")
}

/// The chain for unencrypted packets to or from the gateway itself, before the gateway's own rules.
pub(crate) fn unencrypted_gateway_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-CLEAR-IN",
        Direction::Out => "PLUTO-CLEAR-OUT",
    })
}

/// The chain for unencrypted packets to or from the gateway itself, before the blocked pairs.
fn clear_text_block_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-APART-IN",
        Direction::Out => "PLUTO-APART-OUT",
    })
}

/// The chain for the gateway's `only-ipsec`, for packets that are unencrypted on one side only:
/// those that arrived unencrypted and go into a tunnel, or those that came out of a tunnel and
/// leave unencrypted.
pub(crate) fn only_beside_tunnels(unencrypted: Direction) -> ChainName {
    ChainName::literal(match unencrypted {
        Direction::In => "PLUTO-ONLY-FROM",
        Direction::Out => "PLUTO-ONLY-TO",
    })
}

/// The chain that a built-in chain jumps to.
pub(crate) fn base_chain(built_in: BuiltIn) -> ChainName {
    ChainName::literal(match built_in {
        BuiltIn::Input => "PLUTO-INPUT",
        BuiltIn::Forward => "PLUTO-FORWARD",
        BuiltIn::Output => "PLUTO-OUTPUT",
        BuiltIn::PreRouting => "PLUTO-PREROUTING",
        BuiltIn::PostRouting => "PLUTO-POSTROUTING",
    })
}

/// The rule in a built-in chain that jumps to this program's chain.
pub(crate) fn base_chain_jump(built_in: BuiltIn) -> Rule {
    Rule::always(Target::Jump(base_chain(built_in)))
}

pub(crate) fn ipsec_rule(direction: Direction, target: Target) -> Rule {
    Rule::when(Match::Policy(PolicyMatch::any_ipsec(direction)), target)
}

fn wildcard_rule(path: PacketPath, class: &InterfaceWildcard, target: Target) -> Rule {
    Rule::when(path.interface_match(InterfaceMatch::Wildcard(class.clone())), target)
}

/// The settings of a ruleset that its rules depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JumpConfig {
    /// The family of the packets.
    pub family: Family,
    /// The position of the jumps in the built-in chains of the filter table.
    pub place: JumpPlace,
    /// The bit that carries the consent of a first tunnel to a second one.
    pub mark: MarkBit,
}

impl JumpConfig {
    /// Where the jump in a built-in chain of a table is, or that the administrator installs it. In
    /// the nat and mangle tables the jump is always first: those tables allow nothing, and a
    /// MASQUERADE of everything must not match packets first whose source a tunnel keeps or
    /// translates.
    pub(crate) fn place(self, table: Table) -> JumpPlace {
        match table {
            Table::Filter => self.place,
            Table::Nat | Table::Mangle => JumpPlace::First,
        }
    }

    /// Whether a chain stays although no record needs it, because the administrator's jump may lead
    /// to it.
    pub(crate) fn keeps_chain(self, table: Table, chain: &ChainName) -> bool {
        match self.place(table) {
            JumpPlace::First | JumpPlace::Last => false,
            JumpPlace::Own => table.built_in().iter().any(|built_in| base_chain(*built_in) == *chain),
        }
    }
}

pub(crate) fn table_base(table: Table, jump_config: JumpConfig) -> ChainFragment {
    let mut fragment = match table {
        Table::Filter => filter_base(jump_config.mark),
        Table::Nat | Table::Mangle => sorting_base(table),
    };
    for built_in in table.built_in() {
        match jump_config.place(table) {
            JumpPlace::First => fragment.insert_rule(*built_in, base_chain_jump(*built_in)),
            JumpPlace::Last => fragment.append_rule(*built_in, base_chain_jump(*built_in)),
            JumpPlace::Own => {}
        }
    }
    fragment
}

fn filter_base(bit: MarkBit) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    for built_in in Table::Filter.built_in() {
        fragment.add_chain(&base_chain(*built_in));
    }
    for chain in [decrypted_chain(), onward_chain()] {
        fragment.add_chain(&chain);
    }
    for path in PacketPath::tunnel_paths(Table::Filter) {
        fragment.add_chain(&path.dispatcher());
    }
    for path in PacketPath::REFUSE {
        fragment.add_chain(&path.dispatcher());
    }
    for path in [PacketPath::Input, PacketPath::Output] {
        add_ipsec_dispatch(&mut fragment, path);
    }
    // After all tunnels: packets that no tunnel has accepted are dropped if they belong to a
    // restricted tunnel.
    fragment.append_rule(
        &PacketPath::Input.dispatcher(),
        Rule::always(Target::Jump(PacketPath::RefuseInput.dispatcher())),
    );
    add_forward_rules(&mut fragment);
    decrypted_rules(&mut fragment, bit);
    add_onward_rules(&mut fragment, bit);
    fragment
}

fn sorting_base(table: Table) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    for path in PacketPath::tunnel_paths(table) {
        for built_in in path.built_in() {
            fragment.add_chain(&base_chain(*built_in));
        }
        fragment.add_chain(&path.dispatcher());
        add_ipsec_dispatch(&mut fragment, *path);
    }
    fragment
}

/// Sends packets that came or will leave by IPsec to the path's dispatcher.
fn add_ipsec_dispatch(fragment: &mut ChainFragment, path: PacketPath) {
    for built_in in path.built_in() {
        let ipsec = Match::Policy(PolicyMatch::any_ipsec(path.direction()));
        fragment.append_rule(
            &base_chain(*built_in),
            Rule {
                matches: syn_only(path.table(), ipsec),
                target: Target::Jump(path.dispatcher()),
            },
        );
    }
}

/// In the mangle table only the beginnings of TCP connections matter: the size of segments is
/// agreed on there.
fn syn_only(table: Table, matched: Match) -> Vec<Match> {
    match table {
        Table::Filter | Table::Nat => vec![matched],
        // A protocol match comes first, as iptables lists it, but after an interface match.
        Table::Mangle if matches!(matched, Match::In(_) | Match::Out(_)) => vec![matched, Match::Syn],
        Table::Mangle => vec![Match::Syn, matched],
    }
}

/// Sorts forwarded packets. The first rule is a goto and comes before the second: the tunnel that a
/// decrypted packet came out of must allow it. A packet that this tunnel refuses must not be
/// treated as an unencrypted one that goes into a tunnel.
fn add_forward_rules(fragment: &mut ChainFragment) {
    let chain = base_chain(BuiltIn::Forward);
    fragment.append_rule(&chain, ipsec_rule(Direction::In, Target::Goto(decrypted_chain())));
    fragment.append_rule(
        &chain,
        ipsec_rule(Direction::Out, Target::Goto(PacketPath::ForwardOut.dispatcher())),
    );
}

/// The rules for packets that came out of a tunnel: the inbound tunnel's, then, if that allows the
/// packet and the packet goes into a tunnel, the outbound tunnel's.
fn decrypted_rules(fragment: &mut ChainFragment, bit: MarkBit) {
    let chain = decrypted_chain();
    let mut rule = |rule| fragment.append_rule(&chain, rule);
    // Unconditionally, and before any tunnel's rules: a bit that another program has set must not
    // be taken for consent.
    rule(Rule::always(Target::ClearMark(bit)));
    rule(Rule::always(Target::Jump(PacketPath::ForwardIn.dispatcher())));
    // Here no inbound tunnel has allowed the packet. These rules come before the outbound tunnel's,
    // because its permission alone is not enough. But both tunnels may forbid the packet, and an
    // ACCEPT of the administrator's must not come first: packets out of a restricted tunnel are
    // dropped, and so are packets into a tunnel that allows nothing. These chains never accept,
    // so that neither opens what the other forbids. All other packets return to the administrator's
    // rules. The goto ensures that they do not reach the outbound tunnel.
    let refuse_forward = Target::Jump(PacketPath::RefuseForward.dispatcher());
    rule(Rule::when(Match::NotMark(bit), refuse_forward));
    rule(Rule::when(
        Match::NotMark(bit),
        Target::Goto(PacketPath::RefuseOut.dispatcher()),
    ));
    // Cleared again, so that neither the outbound tunnel nor a rule of the administrator's sees the
    // bit.
    rule(Rule::always(Target::ClearMark(bit)));
    // A goto: packets that the outbound tunnel does not match return to the administrator's rules.
    rule(Rule::always(Target::Goto(PacketPath::ForwardOut.dispatcher())));
}

/// Sets the bit for a packet that the inbound tunnel allows. A packet that leaves unencrypted goes
/// into no other tunnel, and is accepted. One that leaves by a tunnel's interface goes into that
/// tunnel although no policy matches (see [`wildcard`]).
fn add_onward_rules(fragment: &mut ChainFragment, bit: MarkBit) {
    fragment.append_rule(
        &onward_chain(),
        Rule::when(Match::PolicyNone(Direction::Out), Target::Accept),
    );
    fragment.append_rule(&onward_chain(), Rule::always(Target::SetMark(bit)));
}

/// `PLUTO-INTERFACES` sets the bit if a packet came in by a tunnel's interface. It clears the bit
/// first: otherwise a bit that another program has set would make every interface that the wildcard
/// matches look like a tunnel's.
pub(crate) fn interfaces(bit: MarkBit) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&interfaces_chain());
    fragment.add_chain(&mark_chain());
    fragment.append_rule(&interfaces_chain(), Rule::always(Target::ClearMark(bit)));
    fragment.append_rule(&mark_chain(), Rule::always(Target::SetMark(bit)));
    fragment
}

/// No policy matches the packets of an interface's tunnel. In FORWARD the input interface is tested
/// first: if the test for an outbound policy came first, the outbound tunnel alone would decide.
/// The output interface is tested last, when it is known that the packet came neither by IPsec nor
/// by a tunnel's interface.
pub(crate) fn wildcard(table: Table, class: &InterfaceWildcard, bit: MarkBit) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    match table {
        Table::Filter => {
            filter_wildcard(&mut fragment, class, bit);
            // Before the gateway's own rules, for which packets by such an interface are
            // unencrypted.
            for path in [PacketPath::Input, PacketPath::Output] {
                for built_in in path.built_in() {
                    fragment.insert_rule(
                        &base_chain(*built_in),
                        wildcard_rule(path, class, Target::Jump(path.dispatcher())),
                    );
                }
            }
        }
        Table::Nat | Table::Mangle => {
            for path in PacketPath::tunnel_paths(table) {
                add_wildcard_dispatch(&mut fragment, *path, class);
            }
        }
    }
    fragment
}

fn filter_wildcard(fragment: &mut ChainFragment, class: &InterfaceWildcard, bit: MarkBit) {
    let forward = base_chain(BuiltIn::Forward);
    let came_by = PacketPath::ForwardIn.interface_match(InterfaceMatch::Wildcard(class.clone()));
    // Each is inserted at the head, so the second of the two rules is inserted first. It matches
    // the wildcard as well, because the bit has been cleared only for packets that match it.
    fragment.insert_rule(
        &forward,
        Rule {
            matches: vec![came_by.clone(), Match::Mark(bit)],
            target: Target::Goto(decrypted_chain()),
        },
    );
    fragment.insert_rule(&forward, Rule::when(came_by, Target::Jump(interfaces_chain())));
    // At the head, before the gateway's own rules, because the packet does not leave unencrypted. A
    // jump, because the interface may not be a tunnel's after all. Each tunnel matches its own
    // interface by name, and no other rule there matches a packet without a policy.
    fragment.insert_rule(
        &unencrypted_chain(),
        wildcard_rule(
            PacketPath::ForwardOut,
            class,
            Target::Jump(PacketPath::ForwardOut.dispatcher()),
        ),
    );
    // At the head, before the ACCEPT, which would take a packet without a policy for unencrypted.
    // An interface that the wildcard matches and that no tunnel here has may lead into another
    // program's tunnel. So the inbound tunnel's consent alone does not allow a packet to leave by
    // it: no outbound tunnel matches the packet, and the administrator's rules decide.
    fragment.insert_rule(
        &onward_chain(),
        wildcard_rule(PacketPath::ForwardOut, class, Target::Goto(mark_chain())),
    );
}

/// Sends packets that came in or will leave by such an interface to the path's dispatcher.
fn add_wildcard_dispatch(fragment: &mut ChainFragment, path: PacketPath, class: &InterfaceWildcard) {
    let matched = path.interface_match(InterfaceMatch::Wildcard(class.clone()));
    for built_in in path.built_in() {
        fragment.append_rule(
            &base_chain(*built_in),
            Rule {
                matches: syn_only(path.table(), matched.clone()),
                target: Target::Jump(path.dispatcher()),
            },
        );
    }
}

pub(crate) fn interface(interface: &Interface) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    // Behind the rule that clears the bit.
    fragment.append_rule(
        &interfaces_chain(),
        Rule::when(
            PacketPath::ForwardIn.interface_match(InterfaceMatch::Interface(interface.clone())),
            Target::Goto(mark_chain()),
        ),
    );
    // No policy matches a packet on the interface itself, so these chains take it for unencrypted.
    for (chain, path) in [
        (PacketPath::BlockIn.dispatcher(), PacketPath::BlockIn),
        (PacketPath::BlockOut.dispatcher(), PacketPath::BlockOut),
        (unencrypted_gateway_chain(Direction::In), PacketPath::Input),
        (unencrypted_gateway_chain(Direction::Out), PacketPath::Output),
        (only_beside_tunnels(Direction::In), PacketPath::ForwardIn),
        (only_beside_tunnels(Direction::Out), PacketPath::ForwardOut),
    ] {
        let matched = path.interface_match(InterfaceMatch::Interface(interface.clone()));
        fragment.insert_rule(&chain, Rule::when(matched, Target::Return));
    }
    fragment
}

/// The chain of a bucket. The jump to it, [`DispatchBucket::jump`], is added where the order of
/// buckets requires.
pub(crate) fn bucket(bucket: &DispatchBucket) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&bucket.chain_name());
    fragment
}

/// The rule of a dispatcher that leads to a bucket.
pub(crate) fn bucket_jump(bucket: &DispatchBucket) -> Rule {
    let jump = Target::Jump(bucket.chain_name());
    match bucket.network.prefix_len() {
        0 => Rule::always(jump),
        1.. => Rule::when(bucket.path.remote_match(Network::Prefix(bucket.network)), jump),
    }
}

pub(crate) fn optional_chains(part: &OptionalChains, jump_config: JumpConfig) -> ChainFragment {
    match part {
        OptionalChains::Unencrypted => unencrypted_fragment(),
        OptionalChains::ClearTextEntry => clear_text_entry(),
        OptionalChains::NatExempt => nat_exempt(Match::Policy(PolicyMatch::any_ipsec(Direction::Out))),
        OptionalChains::NatExemptInterface(interface) => {
            nat_exempt(Match::Out(InterfaceMatch::Interface(interface.clone())))
        }
        OptionalChains::SourceNat => source_nat(),
        OptionalChains::ClearTextBlocks => clear_text_blocks(jump_config.family),
        OptionalChains::EspPeers => {
            let mut fragment = ChainFragment::default();
            fragment.add_chain(&PacketPath::EspPeer.dispatcher());
            fragment
        }
        OptionalChains::EspPeer(address) => esp_peer(*address),
    }
}

/// The chain for forwarded packets that neither came by IPsec nor will leave by it. It exists only
/// if a tunnel has an interface, a pair is blocked, or the gateway has own rules. Otherwise such
/// packets meet two rules only.
fn unencrypted_fragment() -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&unencrypted_chain());
    fragment.append_rule(
        &base_chain(BuiltIn::Forward),
        Rule::always(Target::Goto(unencrypted_chain())),
    );
    fragment
}

/// The chains for unencrypted packets, in which tunnels' interfaces are listed as exceptions.
fn clear_text_entry() -> ChainFragment {
    let mut fragment = ChainFragment::default();
    for direction in [Direction::In, Direction::Out] {
        fragment.add_chain(&unencrypted_gateway_chain(direction));
        fragment.add_chain(&only_beside_tunnels(direction));
    }
    for path in [PacketPath::BlockIn, PacketPath::BlockOut] {
        fragment.add_chain(&path.dispatcher());
    }
    fragment
}

/// At the tail, after the tunnels that translate and those that leave translation to other rules.
fn nat_exempt(matched: Match) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.append_rule(&base_chain(BuiltIn::PostRouting), Rule::when(matched, Target::Accept));
    fragment
}

/// A packet that will be source-NATed into a tunnel has no policy yet, because its source is not in
/// the tunnel's selector. The kernel looks up the policy again once the source has been replaced.
/// Packets that this machine itself sends are not translated; ESP and IKE are among them.
fn source_nat() -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.append_rule(
        &base_chain(BuiltIn::PostRouting),
        Rule {
            matches: vec![Match::SrcNotLocal, Match::PolicyNone(Direction::Out)],
            target: Target::Jump(PacketPath::NatOut.dispatcher()),
        },
    );
    fragment
}

fn esp_peer(address: IpAddr) -> ChainFragment {
    let network = Network::host(address);
    let mut fragment = ChainFragment::default();
    fragment.insert_rule(
        &DispatchBucket::for_remote(PacketPath::EspPeer, Precedence::Open, &network).chain_name(),
        Rule::when(Match::Source(network), Target::Accept),
    );
    fragment
}

/// Sends unencrypted packets to the blocks before any rule can accept them: at the head, before the
/// tunnels and the gateway's own rules.
fn clear_text_blocks(family: Family) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    for (direction, path, built_in) in [
        (Direction::In, PacketPath::BlockIn, BuiltIn::Input),
        (Direction::Out, PacketPath::BlockOut, BuiltIn::Output),
    ] {
        let (block_chain, buckets) = (clear_text_block_chain(direction), Target::Jump(path.dispatcher()));
        fragment.add_chain(&block_chain);
        for matches in essential_traffic(direction, family) {
            fragment.append_rule(
                &block_chain,
                Rule {
                    matches,
                    target: Target::Return,
                },
            );
        }
        fragment.append_rule(&block_chain, Rule::always(buckets.clone()));
        let entry = Rule::when(Match::PolicyNone(direction), Target::Jump(block_chain));
        fragment.insert_rule(&base_chain(built_in), entry);
        // Forwarded packets that reach this chain are unencrypted on both sides.
        fragment.insert_rule(&unencrypted_chain(), Rule::always(buckets));
    }
    // Packets out of one tunnel must not be forwarded unencrypted to the blocked remote network of
    // another tunnel, nor unencrypted packets from there into another tunnel. Before the tunnels'
    // chains, because an administrator's chain that they jump to may accept.
    for (tunnels, direction, buckets) in [
        (PacketPath::ForwardIn, Direction::Out, PacketPath::BlockOut),
        (PacketPath::ForwardOut, Direction::In, PacketPath::BlockIn),
    ] {
        fragment.insert_rule(
            &tunnels.dispatcher(),
            Rule::when(Match::PolicyNone(direction), Target::Jump(buckets.dispatcher())),
        );
    }
    fragment
}

/// The traffic that the gateway itself needs for a tunnel to come up: IKE, ESP and AH, DHCP,
/// neighbour discovery (RFC 4861), ICMP errors about its own packets, and loopback.
pub(crate) fn essential_traffic(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let mut all = vec![vec![loopback_match(direction)]];
    all.extend(ipsec_traffic(direction, family));
    all.extend(dhcp_and_ndp(direction, family));
    all
}

/// Packets of the machine to itself.
pub(super) fn loopback_match(direction: Direction) -> Match {
    match direction {
        Direction::In => Match::In(InterfaceMatch::Loopback),
        Direction::Out => Match::Out(InterfaceMatch::Loopback),
    }
}

/// IKE, ESP and AH between this machine and another, as in RFC 7296, RFC 9329 (TCP), RFC 4303 and
/// RFC 4302.
///
/// By local ports: if the remote port were enough, a sender with port 500 would reach every local
/// port. In TCP this machine may be the one that connects, so the remote port is accepted too, but
/// only for packets of an existing connection.
pub(crate) fn ipsec_traffic(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let mut all = ike_traffic(direction, family);
    all.extend(
        ESP_AND_AH
            .into_iter()
            .flat_map(NonZeroU8::new)
            .map(|number| vec![Match::Traffic(direction, family, Traffic::Protocol(Protocol(number)))]),
    );
    all
}

/// ESP and AH.
pub(crate) const ESP_AND_AH: [u8; 2] = [50, 51];

pub(crate) fn ike_traffic(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let from_local_port = |protocol, port| Traffic::Ports {
        protocol,
        local: Ports::single(port),
        remote: Ports::Any,
    };
    let to_remote_port = Traffic::Ports {
        protocol: PortProtocol::Tcp,
        local: Ports::Any,
        remote: Ports::single(4500),
    };
    let at = |traffic| Match::Traffic(direction, family, traffic);
    vec![
        vec![at(from_local_port(PortProtocol::Udp, 500))],
        vec![at(from_local_port(PortProtocol::Udp, 4500))],
        vec![at(from_local_port(PortProtocol::Tcp, 4500))],
        match direction {
            Direction::In => vec![at(to_remote_port), Match::CtState(CtState::Reply)],
            Direction::Out => vec![at(to_remote_port)],
        },
    ]
}

/// DHCP and DHCPv6, neighbour discovery, and ICMP errors about own packets, without which path MTU
/// discovery fails.
pub(crate) fn dhcp_and_ndp(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let ports = match family {
        Family::Ipv4 => 67..=68,
        Family::Ipv6 => 546..=547,
    };
    let dhcp = Traffic::Ports {
        protocol: PortProtocol::Udp,
        local: Ports::Range(ports.clone()),
        remote: Ports::Range(ports),
    };
    let of = |traffic| Match::Traffic(direction, family, traffic);
    let mut all = vec![vec![of(dhcp)]];
    if family == Family::Ipv6 {
        all.extend(NDP_TYPES.map(|kind| vec![of(Traffic::Icmp(Icmp::Type(kind)))]));
    }
    if let Some(number) = NonZeroU8::new(Protocol::icmp(family)) {
        let errors = of(Traffic::Protocol(Protocol(number)));
        all.push(vec![errors, Match::CtState(CtState::Related)]);
    }
    all
}

/// Types of ICMPv6 by which machines of a link find one another: multicast listeners (RFC 2710, RFC
/// 3810), routers and neighbours (RFC 4861).
pub(crate) const NDP_TYPES: [u8; 8] = [130, 131, 132, 143, 133, 134, 135, 136];
