//! The rules of the parts that tunnels share. Each order that carries security has its reason
//! beside it.
//!
//! ```text
//! INPUT ─── PLUTO-INPUT ─── guards · devices · by IPsec ─▶ PLUTO-I · clear ─▶ PLUTO-CLEAR-IN ─── gateway
//! OUTPUT ── PLUTO-OUTPUT ── guards · devices · by IPsec ─▶ PLUTO-O · clear ─▶ PLUTO-CLEAR-OUT ── gateway
//! FORWARD ─ PLUTO-FORWARD ─ interfaces, by IPsec ─▶ PLUTO-DECRYPTED · into IPsec ─▶ PLUTO-FO · clear ─▶ PLUTO-CLEAR ─ devices · guards · gateway
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
//! No chain of a tunnel leads to a dispatcher. Kernels without upstream commit 8e1a1bc4f5a4 (before
//! 6.6.121, 6.12.66 and 6.18.6) validate a chain again for each jump to it, at every commit that
//! adds a rule: were the second tunnel asked from the first one's chain, an `up` would cost the
//! square of the number of tunnels. So the first tunnel's consent is a bit of the packet's mark,
//! and `PLUTO-DECRYPTED` asks the second one.
//!
//! # What the bit means, and where
//!
//! It means "a tunnel that the packet came out of consents", and only between two rules of
//! `PLUTO-DECRYPTED`: it is cleared before the first tunnel is asked, whoever has set it, and
//! before the second one is. No other rule of ours trusts it, but for the one that asks which
//! interface a packet came in by, and clears it before. Without the bit a packet comes to the
//! administrator's rules, unless it came out of a restricted tunnel or goes into one that allows
//! nothing: "not mine" never means "yes".
//!
//! Guards and devices come and go, and which of them stands first is nobody's business: a guard
//! lets by what comes by a tunnel's device or leaves by one, and a packet that no tunnel's device
//! takes comes back to the guards.

use std::net::IpAddr;
use std::num::NonZeroU8;

use super::chain_fragment::ChainFragment;
use super::dispatch::{DispatchBucket, OptionalChains, Precedence};
use super::packet_path::PacketPath;
use crate::netfilter::{
    BuiltIn, ChainName, CtState, Direction, InterfaceMatch, Match, PolicyMatch, Rule, Table, Target,
};
use crate::selector::{
    Family, Icmp, Interface, InterfaceWildcard, MarkBit, Network, PortProtocol, Ports, Protocol, Traffic,
};
use crate::settings::JumpPlace;

pub(super) fn onward_chain() -> ChainName {
    ChainName::literal("PLUTO-ONWARD")
}

/// What came by IPsec, or by a tunnel's interface, and is forwarded.
pub(super) fn decrypted_chain() -> ChainName {
    ChainName::literal("PLUTO-DECRYPTED")
}

/// The interfaces that packets of tunnels come in by.
pub(super) fn interfaces_chain() -> ChainName {
    ChainName::literal("PLUTO-INTERFACES")
}

/// Sets the bit, and nothing else: `-g` to it says yes and ends the chain that holds the `-g`.
pub(super) fn mark_chain() -> ChainName {
    ChainName::literal("PLUTO-MARK")
}

pub(super) fn unencrypted_chain() -> ChainName {
    ChainName::literal("PLUTO-CLEAR")
}

/// Packets in clear to or from the gateway itself, on their way to the gateway's own rules.
pub(super) fn unencrypted_gateway_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-CLEAR-IN",
        Direction::Out => "PLUTO-CLEAR-OUT",
    })
}

/// Packets in clear to or from the gateway itself, on their way to the blocks of networks that are
/// held apart.
fn clear_text_block_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-APART-IN",
        Direction::Out => "PLUTO-APART-OUT",
    })
}

/// Packets that pass between a tunnel and the unencrypted world, on their way to the gateway's
/// `only-ipsec`: those that arrived unencrypted and go into a tunnel, or those that came out of one
/// and leave unencrypted.
pub(super) fn only_beside_tunnels(unencrypted: Direction) -> ChainName {
    ChainName::literal(match unencrypted {
        Direction::In => "PLUTO-ONLY-FROM",
        Direction::Out => "PLUTO-ONLY-TO",
    })
}

/// The chain that a built-in chain jumps to.
pub fn base_chain(built_in: BuiltIn) -> ChainName {
    ChainName::literal(match built_in {
        BuiltIn::Input => "PLUTO-INPUT",
        BuiltIn::Forward => "PLUTO-FORWARD",
        BuiltIn::Output => "PLUTO-OUTPUT",
        BuiltIn::PreRouting => "PLUTO-PREROUTING",
        BuiltIn::PostRouting => "PLUTO-POSTROUTING",
    })
}

/// The rule that a built-in chain holds for us.
pub(super) fn base_chain_jump(built_in: BuiltIn) -> Rule {
    Rule::always(Target::Jump(base_chain(built_in)))
}

pub(super) fn ipsec_rule(direction: Direction, target: Target) -> Rule {
    Rule::when(Match::Policy(PolicyMatch::any_ipsec(direction)), target)
}

fn wildcard_rule(path: PacketPath, class: &InterfaceWildcard, target: Target) -> Rule {
    Rule::when(path.interface_match(InterfaceMatch::Wildcard(class.clone())), target)
}

/// Where a tree stands, as far as its rules depend on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JumpConfig {
    /// The family of the packets.
    pub family: Family,
    /// Where our jumps stand in the built-in chains of the filter table.
    pub place: JumpPlace,
    /// The bit that carries the consent of a first tunnel to a second one.
    pub mark: MarkBit,
}

impl JumpConfig {
    /// Who puts our jump into a built-in chain of a table, and where. The nat and mangle tables are
    /// no matter of what passes, and what is done there must come before everybody else's rules: a
    /// MASQUERADE for all that leaves must not get first what a tunnel keeps or translates.
    pub(super) fn place(self, table: Table) -> JumpPlace {
        match table {
            Table::Filter => self.place,
            Table::Nat | Table::Mangle => JumpPlace::First,
        }
    }

    /// Whether a chain stays when nobody needs it any more, because a jump of the administrator's
    /// may lead there.
    pub(super) fn keeps_chain(self, table: Table, chain: &ChainName) -> bool {
        match self.place(table) {
            JumpPlace::First | JumpPlace::Last => false,
            JumpPlace::Own => table.built_in().iter().any(|built_in| base_chain(*built_in) == *chain),
        }
    }
}

pub(super) fn table_base(table: Table, jump_config: JumpConfig) -> ChainFragment {
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
    // Behind all tunnels, which stand before it: what none of them has accepted is dropped where
    // one is restricted.
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

/// Sends what came or will leave by IPsec to the path's dispatcher; the others are through.
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
        // What asks for a protocol comes first, as iptables shows it; but a device comes before
        // that.
        Table::Mangle if matches!(matched, Match::In(_) | Match::Out(_)) => vec![matched, Match::Syn],
        Table::Mangle => vec![Match::Syn, matched],
    }
}

/// Sorts forwarded packets. The first rule is a goto and stands before the second: a packet that
/// came by IPsec must be allowed by the tunnel that it came from, and what that refuses must not be
/// taken for clear text going into a tunnel.
fn add_forward_rules(fragment: &mut ChainFragment) {
    let chain = base_chain(BuiltIn::Forward);
    fragment.append_rule(&chain, ipsec_rule(Direction::In, Target::Goto(decrypted_chain())));
    fragment.append_rule(
        &chain,
        ipsec_rule(Direction::Out, Target::Goto(PacketPath::ForwardOut.dispatcher())),
    );
}

/// Asks the tunnel that a packet came out of and, where that consents and does not decide alone,
/// the one that it goes into.
fn decrypted_rules(fragment: &mut ChainFragment, bit: MarkBit) {
    let chain = decrypted_chain();
    let mut rule = |rule| fragment.append_rule(&chain, rule);
    // Always, and before any tunnel is asked: a bit that somebody else has set must not pass for
    // consent.
    rule(Rule::always(Target::ClearMark(bit)));
    rule(Rule::always(Target::Jump(PacketPath::ForwardIn.dispatcher())));
    // No tunnel consents, or none knows the packet. Before the second tunnel is asked: its consent
    // alone must not do. But both may forbid it, and an ACCEPT of the administrator's must not
    // come first: what comes out of a restricted tunnel is dropped, and so is what goes into a
    // tunnel that allows nothing. These chains only drop, so that none of them opens what the
    // other forbids. All else returns to the administrator's rules, by the goto: the packet must
    // not come to the second tunnel.
    let refuse_forward = Target::Jump(PacketPath::RefuseForward.dispatcher());
    rule(Rule::when(Match::NotMark(bit), refuse_forward));
    rule(Rule::when(
        Match::NotMark(bit),
        Target::Goto(PacketPath::RefuseOut.dispatcher()),
    ));
    // Nobody behind us meets a bit that is ours: not the second tunnel, nor a rule of the
    // administrator's.
    rule(Rule::always(Target::ClearMark(bit)));
    // For good: what the second tunnel does not take is for the administrator's rules.
    rule(Rule::always(Target::Goto(PacketPath::ForwardOut.dispatcher())));
}

/// Notes the consent of a first tunnel. A packet that leaves in clear goes into no second one, and
/// passes; by a tunnel's interface it goes into one although no policy says so (see [`class`]).
fn add_onward_rules(fragment: &mut ChainFragment, bit: MarkBit) {
    fragment.append_rule(
        &onward_chain(),
        Rule::when(Match::PolicyNone(Direction::Out), Target::Accept),
    );
    fragment.append_rule(&onward_chain(), Rule::always(Target::SetMark(bit)));
}

/// `PLUTO-INTERFACES` says with the bit whether a packet came in by a tunnel's interface. It clears
/// it first: without that, a bit that somebody else has set would make a tunnel's interface of
/// every one that is named alike.
pub(super) fn interfaces(bit: MarkBit) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&interfaces_chain());
    fragment.add_chain(&mark_chain());
    fragment.append_rule(&interfaces_chain(), Rule::always(Target::ClearMark(bit)));
    fragment.append_rule(&mark_chain(), Rule::always(Target::SetMark(bit)));
    fragment
}

/// A packet of a device's tunnel bears no mark of IPsec. In FORWARD the device that it came by is
/// asked for first: were it tested for leaving by IPsec first, the second tunnel alone would
/// decide. The device that it leaves by is asked for last, when it is known that it came neither by
/// IPsec nor by a device.
pub(super) fn wildcard(table: Table, class: &InterfaceWildcard, bit: MarkBit) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    match table {
        Table::Filter => {
            filter_wildcard(&mut fragment, class, bit);
            // Before the gateway's own rules, to which what comes by such a device is in clear.
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
    // The second of the two is put at the head first. It asks for the class as well: of another
    // packet nobody has cleared the bit.
    fragment.insert_rule(
        &forward,
        Rule {
            matches: vec![came_by.clone(), Match::Mark(bit)],
            target: Target::Goto(decrypted_chain()),
        },
    );
    fragment.insert_rule(&forward, Rule::when(came_by, Target::Jump(interfaces_chain())));
    // At the head, before the gateway's own rules: it does not leave in clear. A jump, since it may
    // be no device of ours after all; the tunnels ask for their own by name, and no other rule
    // there takes a packet without a policy.
    fragment.insert_rule(
        &unencrypted_chain(),
        wildcard_rule(
            PacketPath::ForwardOut,
            class,
            Target::Jump(PacketPath::ForwardOut.dispatcher()),
        ),
    );
    // At the head, before the ACCEPT: without a policy it leaves in clear to the eyes of that. An
    // interface that is named like a tunnel's and is none of ours may lead into somebody else's
    // tunnel. So the first tunnel alone does not let a packet out there; no tunnel of ours takes
    // it, and the administrator's rules decide.
    fragment.insert_rule(
        &onward_chain(),
        wildcard_rule(PacketPath::ForwardOut, class, Target::Goto(mark_chain())),
    );
}

/// Sends what came in or will leave by such a device to the path's dispatcher.
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

pub(super) fn interface(interface: &Interface) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    // Behind the rule that clears the bit.
    fragment.append_rule(
        &interfaces_chain(),
        Rule::when(
            PacketPath::ForwardIn.interface_match(InterfaceMatch::Interface(interface.clone())),
            Target::Goto(mark_chain()),
        ),
    );
    // To the interface's eyes all of it is in clear.
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

/// The chain of a bucket. The jump to it comes by [`DispatchBucket::jump`], where its order asks
/// for it.
pub(super) fn bucket(bucket: &DispatchBucket) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&bucket.chain_name());
    fragment
}

/// The rule of a dispatcher that leads to a bucket.
pub(super) fn bucket_jump(bucket: &DispatchBucket) -> Rule {
    let jump = Target::Jump(bucket.chain_name());
    match bucket.network.prefix_len() {
        0 => Rule::always(jump),
        1.. => Rule::when(bucket.path.remote_match(Network::Prefix(bucket.network)), jump),
    }
}

pub(super) fn optional_chains(part: &OptionalChains, jump_config: JumpConfig) -> ChainFragment {
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

/// Where packets go on that neither came by IPsec nor will leave by it. Without a device's tunnel,
/// a guard or a rule of the gateway there is no such chain, and they meet two rules.
fn unencrypted_fragment() -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&unencrypted_chain());
    fragment.append_rule(
        &base_chain(BuiltIn::Forward),
        Rule::always(Target::Goto(unencrypted_chain())),
    );
    fragment
}

/// The chains that packets in clear come to, and that tunnels' devices are told to.
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

/// At the tail, behind the tunnels that translate and those that leave it to others.
fn nat_exempt(matched: Match) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.append_rule(&base_chain(BuiltIn::PostRouting), Rule::when(matched, Target::Accept));
    fragment
}

/// A packet that a tunnel will hide is in clear as yet: its source is not the tunnel's. The kernel
/// looks for a policy once more when its source has been replaced. What this machine itself sends
/// is left alone; ESP and IKE are among it.
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

/// Leads packets in clear to the blocks, before anybody can accept them: at the head, before the
/// tunnels and the gateway's own rules.
fn clear_text_blocks(family: Family) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    for (direction, path, built_in) in [
        (Direction::In, PacketPath::BlockIn, BuiltIn::Input),
        (Direction::Out, PacketPath::BlockOut, BuiltIn::Output),
    ] {
        let (apart, buckets) = (clear_text_block_chain(direction), Target::Jump(path.dispatcher()));
        fragment.add_chain(&apart);
        for matches in essential_traffic(direction, family) {
            fragment.append_rule(
                &apart,
                Rule {
                    matches,
                    target: Target::Return,
                },
            );
        }
        fragment.append_rule(&apart, Rule::always(buckets.clone()));
        let entry = Rule::when(Match::PolicyNone(direction), Target::Jump(apart));
        fragment.insert_rule(&base_chain(built_in), entry);
        // What is forwarded is in clear in both directions where it comes here.
        fragment.insert_rule(&unencrypted_chain(), Rule::always(buckets));
    }
    // What comes out of one tunnel must not go on in clear to a network that another tunnel leads
    // to, and what comes in clear from there must not go on into another tunnel. Before the
    // tunnels: a chain of the administrator's may accept.
    for (tunnels, clear, buckets) in [
        (PacketPath::ForwardIn, Direction::Out, PacketPath::BlockOut),
        (PacketPath::ForwardOut, Direction::In, PacketPath::BlockIn),
    ] {
        fragment.insert_rule(
            &tunnels.dispatcher(),
            Rule::when(Match::PolicyNone(clear), Target::Jump(buckets.dispatcher())),
        );
    }
    fragment
}

/// What the gateway itself cannot do without for a tunnel to come up: IKE, ESP and AH, an address
/// (DHCP) and neighbours (RFC 4861); errors about what it has sent; and what it says to itself.
pub(super) fn essential_traffic(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let mut all = vec![vec![loopback_match(direction)]];
    all.extend(ipsec_traffic(direction, family));
    all.extend(dhcp_and_ndp(direction, family));
    all
}

/// What the machine says to itself.
pub(super) fn loopback_match(direction: Direction) -> Match {
    match direction {
        Direction::In => Match::In(InterfaceMatch::Loopback),
        Direction::Out => Match::Out(InterfaceMatch::Loopback),
    }
}

/// IKE, ESP and AH between this machine and another, as in RFC 7296, RFC 9329 (TCP), RFC 4303 and
/// RFC 4302.
///
/// By our own ports: whoever could come in by sending from port 500 would reach every port. In TCP,
/// where this machine may be the one that connects, the other's port counts only for what belongs
/// to such a connection.
pub(super) fn ipsec_traffic(direction: Direction, family: Family) -> Vec<Vec<Match>> {
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
pub(super) const ESP_AND_AH: [u8; 2] = [50, 51];

pub(super) fn ike_traffic(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let ours = |protocol, port| Traffic::Ports {
        protocol,
        local: Ports::single(port),
        remote: Ports::Any,
    };
    let theirs = Traffic::Ports {
        protocol: PortProtocol::Tcp,
        local: Ports::Any,
        remote: Ports::single(4500),
    };
    let at = |traffic| Match::Traffic(direction, family, traffic);
    vec![
        vec![at(ours(PortProtocol::Udp, 500))],
        vec![at(ours(PortProtocol::Udp, 4500))],
        vec![at(ours(PortProtocol::Tcp, 4500))],
        match direction {
            Direction::In => vec![at(theirs), Match::CtState(CtState::Reply)],
            Direction::Out => vec![at(theirs)],
        },
    ]
}

/// DHCP, and what IPv6 has in its place and in that of ARP; errors about packets of ours, without
/// which no path MTU is found.
pub(super) fn dhcp_and_ndp(direction: Direction, family: Family) -> Vec<Vec<Match>> {
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
pub(super) const NDP_TYPES: [u8; 8] = [130, 131, 132, 143, 133, 134, 135, 136];
