//! The rules of the parts that tunnels share. Each order that carries security has its reason beside it.
//!
//! ```text
//! INPUT ─── PLUTO-INPUT ─── guards · devices · by IPsec ─▶ PLUTO-I · clear ─▶ PLUTO-CLEAR-IN ─── gateway
//! OUTPUT ── PLUTO-OUTPUT ── guards · devices · by IPsec ─▶ PLUTO-O · clear ─▶ PLUTO-CLEAR-OUT ── gateway
//! FORWARD ─ PLUTO-FORWARD ─ devices · by IPsec ─▶ PLUTO-FI · into IPsec ─▶ PLUTO-FO · clear ─▶ PLUTO-CLEAR ─ devices · guards · gateway
//! ```
//!
//! Guards and devices come and go, and which of them stands first is nobody's business: a guard lets by what comes by a tunnel's device
//! or leaves by one, and a packet that no tunnel's device takes comes back to the guards.

use std::net::IpAddr;
use std::num::NonZeroU8;

use super::chain_fragment::ChainFragment;
use super::dispatch::{DispatchBucket, OptionalChains};
use super::packet_path::PacketPath;
use crate::netfilter::{
    BuiltIn, Chain, ChainName, Command, CtState, Direction, InterfaceMatch, Match, PolicyMatch, Rule, Table, Target,
};
use crate::selector::{Family, Icmp, Interface, InterfaceWildcard, Network, PortProtocol, Ports, Protocol, Traffic};
use crate::settings::JumpPlace;

pub(super) fn onward_chain() -> ChainName {
    ChainName::literal("PLUTO-ONWARD")
}

fn from_interfaces_chain() -> ChainName {
    ChainName::literal("PLUTO-FROM")
}

fn to_interfaces_chain() -> ChainName {
    ChainName::literal("PLUTO-TO")
}

fn into_interfaces_chain() -> ChainName {
    ChainName::literal("PLUTO-INTO")
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

/// Packets in clear to or from the gateway itself, on their way to the blocks of networks that are held apart.
fn clear_text_block_chain(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-APART-IN",
        Direction::Out => "PLUTO-APART-OUT",
    })
}

/// Packets that pass between a tunnel and the unencrypted world, on their way to the gateway's `only-ipsec`: those that arrived unencrypted
/// and go into a tunnel, or those that came out of one and leave unencrypted.
pub(super) fn only_beside_tunnels(unencrypted: Direction) -> ChainName {
    ChainName::literal(match unencrypted {
        Direction::In => "PLUTO-ONLY-FROM",
        Direction::Out => "PLUTO-ONLY-TO",
    })
}

/// The chain that a built-in chain jumps to.
pub(super) fn base_chain(built_in: BuiltIn) -> ChainName {
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
}

impl JumpConfig {
    /// Who puts our jump into a built-in chain of a table, and where. The nat and mangle tables are no matter of what passes, and what
    /// is done there must come before everybody else's rules: a MASQUERADE for all that leaves must not get first what a tunnel
    /// keeps or translates.
    pub(super) fn place(self, table: Table) -> JumpPlace {
        match table {
            Table::Filter => self.place,
            Table::Nat | Table::Mangle => JumpPlace::First,
        }
    }

    /// Whether a chain stays when nobody needs it any more, because a jump of the administrator's may lead there.
    pub(super) fn keeps_chain(self, table: Table, chain: &ChainName) -> bool {
        match self.place(table) {
            JumpPlace::First | JumpPlace::Last => false,
            JumpPlace::Own => table.built_in().iter().any(|built_in| base_chain(*built_in) == *chain),
        }
    }
}

/// A test for the jump from a built-in chain. Of a jump that the administrator has put in nothing is known but what it leads to: there the
/// chain is looked at itself.
pub(super) fn jump_check(table: Table, built_in: BuiltIn, jump_config: JumpConfig) -> Command {
    match jump_config.place(table) {
        JumpPlace::First | JumpPlace::Last => Command::Check(built_in.into(), base_chain_jump(built_in)),
        JumpPlace::Own => {
            let chain = base_chain(built_in);
            let base = table_base(table, jump_config);
            let mut rules = base.rules.into_iter();
            let first = rules.find(|placed| placed.chain == Chain::Own(chain.clone()));
            let rule = first.map_or_else(|| base_chain_jump(built_in), |placed| placed.rule);
            Command::Check(Chain::Own(chain), rule)
        }
    }
}

pub(super) fn table_base(table: Table, jump_config: JumpConfig) -> ChainFragment {
    let mut fragment = match table {
        Table::Filter => filter_base(),
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

fn filter_base() -> ChainFragment {
    let mut fragment = ChainFragment::default();
    for built_in in Table::Filter.built_in() {
        fragment.add_chain(&base_chain(*built_in));
    }
    fragment.add_chain(&onward_chain());
    for path in PacketPath::tunnel_paths(Table::Filter) {
        fragment.add_chain(&path.dispatcher());
    }
    for path in [PacketPath::Input, PacketPath::Output] {
        add_ipsec_dispatch(&mut fragment, path);
    }
    add_forward_rules(&mut fragment, &base_chain(BuiltIn::Forward));
    add_onward_rules(&mut fragment, &onward_chain());
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

/// In the mangle table only the beginnings of TCP connections matter: the size of segments is agreed on there.
fn syn_only(table: Table, matched: Match) -> Vec<Match> {
    match table {
        Table::Filter | Table::Nat => vec![matched],
        // What asks for a protocol comes first, as iptables shows it; but a device comes before that.
        Table::Mangle if matches!(matched, Match::In(_) | Match::Out(_)) => vec![matched, Match::Syn],
        Table::Mangle => vec![Match::Syn, matched],
    }
}

/// Sorts forwarded packets. The first rule is a goto and stands before the second: a packet that came by IPsec must be
/// allowed by the tunnel that it came from, and what that refuses must not be taken for clear text going into a tunnel.
fn add_forward_rules(fragment: &mut ChainFragment, chain: &ChainName) {
    fragment.append_rule(
        chain,
        ipsec_rule(Direction::In, Target::Goto(PacketPath::ForwardIn.dispatcher())),
    );
    fragment.append_rule(
        chain,
        ipsec_rule(Direction::Out, Target::Goto(PacketPath::ForwardOut.dispatcher())),
    );
}

/// Decides about what a first tunnel has allowed. Both ends must agree: what leaves by IPsec again is for the second tunnel to
/// allow, and goes there for good, so that its refusal does not end at the ACCEPT.
fn add_onward_rules(fragment: &mut ChainFragment, chain: &ChainName) {
    fragment.append_rule(
        chain,
        ipsec_rule(Direction::Out, Target::Goto(PacketPath::ForwardOut.dispatcher())),
    );
    fragment.append_rule(chain, Rule::always(Target::Accept));
}

/// `PLUTO-FROM` sorts packets from a device that is named like a tunnel's; those that are not from one of ours after all go
/// the way of all others. `PLUTO-TO` does the same for what a first tunnel has allowed and leaves by such a device, `PLUTO-INTO` for what
/// came in clear.
pub(super) fn interfaces() -> ChainFragment {
    let mut fragment = ChainFragment::default();
    fragment.add_chain(&from_interfaces_chain());
    fragment.add_chain(&to_interfaces_chain());
    fragment.add_chain(&into_interfaces_chain());
    add_forward_rules(&mut fragment, &from_interfaces_chain());
    fragment.append_rule(
        &from_interfaces_chain(),
        Rule::always(Target::Goto(unencrypted_chain())),
    );
    add_onward_rules(&mut fragment, &to_interfaces_chain());
    fragment
}

/// A packet of a device's tunnel bears no mark of IPsec. In FORWARD the device that it came by is asked for first: were it tested for
/// leaving by IPsec first, the second tunnel alone would decide. The device that it leaves by is asked for last, when it is known that it
/// came neither by IPsec nor by a device.
pub(super) fn wildcard(table: Table, class: &InterfaceWildcard) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    match table {
        Table::Filter => {
            filter_wildcard(&mut fragment, class);
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

fn filter_wildcard(fragment: &mut ChainFragment, class: &InterfaceWildcard) {
    fragment.insert_rule(
        &base_chain(BuiltIn::Forward),
        wildcard_rule(PacketPath::ForwardIn, class, Target::Goto(from_interfaces_chain())),
    );
    // At the head, before the gateway's own rules: it does not leave in clear. A jump, since it may be no device of ours after all.
    fragment.insert_rule(
        &unencrypted_chain(),
        wildcard_rule(PacketPath::ForwardOut, class, Target::Jump(into_interfaces_chain())),
    );
    // At the head, before the ACCEPT.
    fragment.insert_rule(
        &onward_chain(),
        wildcard_rule(PacketPath::ForwardOut, class, Target::Goto(to_interfaces_chain())),
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
    for (chain, path) in [
        (from_interfaces_chain(), PacketPath::ForwardIn),
        (to_interfaces_chain(), PacketPath::ForwardOut),
        (into_interfaces_chain(), PacketPath::ForwardOut),
    ] {
        let matched = path.interface_match(InterfaceMatch::Interface(interface.clone()));
        fragment.insert_rule(&chain, Rule::when(matched, Target::Goto(path.dispatcher())));
    }
    // To the device's eyes all of it is in clear.
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

pub(super) fn bucket(bucket: &DispatchBucket) -> ChainFragment {
    let mut fragment = ChainFragment::default();
    let jump = Target::Jump(bucket.chain_name());
    let rule = match bucket.network.prefix_len() {
        0 => Rule::always(jump),
        1.. => Rule::when(bucket.path.remote_match(Network::Prefix(bucket.network)), jump),
    };
    fragment.add_chain(&bucket.chain_name());
    fragment.append_rule(&bucket.path.dispatcher(), rule);
    fragment
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

/// Where packets go on that neither came by IPsec nor will leave by it. Without a device's tunnel, a guard or a rule of the gateway there is
/// no such chain, and they meet two rules.
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

/// A packet that a tunnel will hide is in clear as yet: its source is not the tunnel's. The kernel looks for a policy once more when
/// its source has been replaced. What this machine itself sends is left alone; ESP and IKE are among it.
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
        &DispatchBucket::for_remote(PacketPath::EspPeer, &network).chain_name(),
        Rule::when(Match::Source(network), Target::Accept),
    );
    fragment
}

/// Leads packets in clear to the blocks, before anybody can accept them: at the head, before the tunnels and the gateway's own rules.
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
    // What comes out of one tunnel must not go on in clear to a network that another tunnel leads to, and what comes in clear from there
    // must not go on into another tunnel. Before the tunnels: a chain of the administrator's may accept.
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

/// What the gateway itself cannot do without for a tunnel to come up: IKE, ESP and AH, an address (DHCP) and neighbours (RFC 4861); errors
/// about what it has sent; and what it says to itself.
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

/// IKE, ESP and AH between this machine and another, as in RFC 7296, RFC 9329 (TCP), RFC 4303 and RFC 4302.
///
/// By our own ports: whoever could come in by sending from port 500 would reach every port. In TCP, where this machine may be the one
/// that connects, the other's port counts only for what belongs to such a connection.
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

/// DHCP, and what IPv6 has in its place and in that of ARP; errors about packets of ours, without which no path MTU is found.
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

/// Types of ICMPv6 by which machines of a link find one another: multicast listeners (RFC 2710, RFC 3810), routers and neighbours (RFC 4861).
pub(super) const NDP_TYPES: [u8; 8] = [130, 131, 132, 143, 133, 134, 135, 136];
