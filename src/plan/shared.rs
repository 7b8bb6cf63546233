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

use super::path::Path;
use super::piece::Piece;
use super::tree::{Block, Shared};
use crate::netfilter::{
    BuiltIn, Chain, ChainName, Command, CtState, Direction, InterfaceMatch, Match, PolicyMatch, Rule, Table, Target,
};
use crate::selector::{Device, DeviceClass, Family, Icmp, Network, PortProtocol, Ports, Protocol, Traffic};
use crate::settings::JumpPlace;

pub(super) fn onward() -> ChainName {
    ChainName::literal("PLUTO-ONWARD")
}

fn from_devices() -> ChainName {
    ChainName::literal("PLUTO-FROM")
}

fn to_devices() -> ChainName {
    ChainName::literal("PLUTO-TO")
}

fn into_devices() -> ChainName {
    ChainName::literal("PLUTO-INTO")
}

pub(super) fn clear() -> ChainName {
    ChainName::literal("PLUTO-CLEAR")
}

/// Packets in clear to or from the gateway itself, on their way to the gateway's own rules.
pub(super) fn clear_here(direction: Direction) -> ChainName {
    ChainName::literal(match direction {
        Direction::In => "PLUTO-CLEAR-IN",
        Direction::Out => "PLUTO-CLEAR-OUT",
    })
}

/// Packets in clear to or from the gateway itself, on their way to the blocks of networks that are held apart.
fn apart(direction: Direction) -> ChainName {
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
pub(super) fn entrance(built_in: BuiltIn) -> ChainName {
    ChainName::literal(match built_in {
        BuiltIn::Input => "PLUTO-INPUT",
        BuiltIn::Forward => "PLUTO-FORWARD",
        BuiltIn::Output => "PLUTO-OUTPUT",
        BuiltIn::PreRouting => "PLUTO-PREROUTING",
        BuiltIn::PostRouting => "PLUTO-POSTROUTING",
    })
}

/// The rule that a built-in chain holds for us.
pub(super) fn entrance_jump(built_in: BuiltIn) -> Rule {
    Rule::always(Target::Jump(entrance(built_in)))
}

pub(super) fn by_ipsec(direction: Direction, target: Target) -> Rule {
    Rule::when(Match::Policy(PolicyMatch::any_ipsec(direction)), target)
}

fn by_class(path: Path, class: &DeviceClass, target: Target) -> Rule {
    Rule::when(path.device(InterfaceMatch::Wildcard(class.clone())), target)
}

/// Where a tree stands, as far as its rules depend on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The family of the packets.
    pub family: Family,
    /// Where our jumps stand in the built-in chains of the filter table.
    pub place: JumpPlace,
}

impl Site {
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
    pub(super) fn keeps(self, table: Table, chain: &ChainName) -> bool {
        match self.place(table) {
            JumpPlace::First | JumpPlace::Last => false,
            JumpPlace::Own => table.built_in().iter().any(|built_in| entrance(*built_in) == *chain),
        }
    }
}

/// A test for the jump from a built-in chain. Of a jump that the administrator has put in nothing is known but what it leads to: there the
/// chain is looked at itself.
pub(super) fn jump_check(table: Table, built_in: BuiltIn, site: Site) -> Command {
    match site.place(table) {
        JumpPlace::First | JumpPlace::Last => Command::Check(built_in.into(), entrance_jump(built_in)),
        JumpPlace::Own => {
            let chain = entrance(built_in);
            let base = base(table, site);
            let mut rules = base.rules.into_iter();
            let first = rules.find(|placed| placed.chain == Chain::Own(chain.clone()));
            let rule = first.map_or_else(|| entrance_jump(built_in), |placed| placed.rule);
            Command::Check(Chain::Own(chain), rule)
        }
    }
}

pub(super) fn base(table: Table, site: Site) -> Piece {
    let mut piece = match table {
        Table::Filter => filter_base(),
        Table::Nat | Table::Mangle => sorted_base(table),
    };
    for built_in in table.built_in() {
        match site.place(table) {
            JumpPlace::First => piece.head(*built_in, entrance_jump(*built_in)),
            JumpPlace::Last => piece.tail(*built_in, entrance_jump(*built_in)),
            JumpPlace::Own => {}
        }
    }
    piece
}

fn filter_base() -> Piece {
    let mut piece = Piece::default();
    for built_in in Table::Filter.built_in() {
        piece.chain(&entrance(*built_in));
    }
    piece.chain(&onward());
    for path in Path::of_tunnels(Table::Filter) {
        piece.chain(&path.dispatcher());
    }
    for path in [Path::Input, Path::Output] {
        sort_ipsec(&mut piece, path);
    }
    forward_rules(&mut piece, &entrance(BuiltIn::Forward));
    onward_rules(&mut piece, &onward());
    piece
}

fn sorted_base(table: Table) -> Piece {
    let mut piece = Piece::default();
    for path in Path::of_tunnels(table) {
        for built_in in path.built_in() {
            piece.chain(&entrance(*built_in));
        }
        piece.chain(&path.dispatcher());
        sort_ipsec(&mut piece, *path);
    }
    piece
}

/// Sends what came or will leave by IPsec to the path's dispatcher; the others are through.
fn sort_ipsec(piece: &mut Piece, path: Path) {
    for built_in in path.built_in() {
        let ipsec = Match::Policy(PolicyMatch::any_ipsec(path.direction()));
        piece.tail(
            &entrance(*built_in),
            Rule {
                matches: only_first(path.table(), ipsec),
                target: Target::Jump(path.dispatcher()),
            },
        );
    }
}

/// In the mangle table only the beginnings of TCP connections matter: the size of segments is agreed on there.
fn only_first(table: Table, matched: Match) -> Vec<Match> {
    match table {
        Table::Filter | Table::Nat => vec![matched],
        // What asks for a protocol comes first, as iptables shows it; but a device comes before that.
        Table::Mangle if matches!(matched, Match::In(_) | Match::Out(_)) => vec![matched, Match::Syn],
        Table::Mangle => vec![Match::Syn, matched],
    }
}

/// Sorts forwarded packets. The first rule is a goto and stands before the second: a packet that came by IPsec must be
/// allowed by the tunnel that it came from, and what that refuses must not be taken for clear text going into a tunnel.
fn forward_rules(piece: &mut Piece, chain: &ChainName) {
    piece.tail(
        chain,
        by_ipsec(Direction::In, Target::Goto(Path::ForwardIn.dispatcher())),
    );
    piece.tail(
        chain,
        by_ipsec(Direction::Out, Target::Goto(Path::ForwardOut.dispatcher())),
    );
}

/// Decides about what a first tunnel has allowed. Both ends must agree: what leaves by IPsec again is for the second tunnel to
/// allow, and goes there for good, so that its refusal does not end at the ACCEPT.
fn onward_rules(piece: &mut Piece, chain: &ChainName) {
    piece.tail(
        chain,
        by_ipsec(Direction::Out, Target::Goto(Path::ForwardOut.dispatcher())),
    );
    piece.tail(chain, Rule::always(Target::Accept));
}

/// `PLUTO-FROM` sorts packets from a device that is named like a tunnel's; those that are not from one of ours after all go
/// the way of all others. `PLUTO-TO` does the same for what a first tunnel has allowed and leaves by such a device, `PLUTO-INTO` for what
/// came in clear.
pub(super) fn devices() -> Piece {
    let mut piece = Piece::default();
    piece.chain(&from_devices());
    piece.chain(&to_devices());
    piece.chain(&into_devices());
    forward_rules(&mut piece, &from_devices());
    piece.tail(&from_devices(), Rule::always(Target::Goto(clear())));
    onward_rules(&mut piece, &to_devices());
    piece
}

/// A packet of a device's tunnel bears no mark of IPsec. In FORWARD the device that it came by is asked for first: were it tested for
/// leaving by IPsec first, the second tunnel alone would decide. The device that it leaves by is asked for last, when it is known that it
/// came neither by IPsec nor by a device.
pub(super) fn class(table: Table, class: &DeviceClass) -> Piece {
    let mut piece = Piece::default();
    match table {
        Table::Filter => {
            filter_class(&mut piece, class);
            // Before the gateway's own rules, to which what comes by such a device is in clear.
            for path in [Path::Input, Path::Output] {
                for built_in in path.built_in() {
                    piece.head(
                        &entrance(*built_in),
                        by_class(path, class, Target::Jump(path.dispatcher())),
                    );
                }
            }
        }
        Table::Nat | Table::Mangle => {
            for path in Path::of_tunnels(table) {
                sort_class(&mut piece, *path, class);
            }
        }
    }
    piece
}

fn filter_class(piece: &mut Piece, class: &DeviceClass) {
    piece.head(
        &entrance(BuiltIn::Forward),
        by_class(Path::ForwardIn, class, Target::Goto(from_devices())),
    );
    // At the head, before the gateway's own rules: it does not leave in clear. A jump, since it may be no device of ours after all.
    piece.head(
        &clear(),
        by_class(Path::ForwardOut, class, Target::Jump(into_devices())),
    );
    // At the head, before the ACCEPT.
    piece.head(&onward(), by_class(Path::ForwardOut, class, Target::Goto(to_devices())));
}

/// Sends what came in or will leave by such a device to the path's dispatcher.
fn sort_class(piece: &mut Piece, path: Path, class: &DeviceClass) {
    let matched = path.device(InterfaceMatch::Wildcard(class.clone()));
    for built_in in path.built_in() {
        piece.tail(
            &entrance(*built_in),
            Rule {
                matches: only_first(path.table(), matched.clone()),
                target: Target::Jump(path.dispatcher()),
            },
        );
    }
}

pub(super) fn device(device: &Device) -> Piece {
    let mut piece = Piece::default();
    for (chain, path) in [
        (from_devices(), Path::ForwardIn),
        (to_devices(), Path::ForwardOut),
        (into_devices(), Path::ForwardOut),
    ] {
        let matched = path.device(InterfaceMatch::Interface(device.clone()));
        piece.head(&chain, Rule::when(matched, Target::Goto(path.dispatcher())));
    }
    // To the device's eyes all of it is in clear.
    for (chain, path) in [
        (Path::BlockIn.dispatcher(), Path::BlockIn),
        (Path::BlockOut.dispatcher(), Path::BlockOut),
        (clear_here(Direction::In), Path::Input),
        (clear_here(Direction::Out), Path::Output),
        (only_beside_tunnels(Direction::In), Path::ForwardIn),
        (only_beside_tunnels(Direction::Out), Path::ForwardOut),
    ] {
        let matched = path.device(InterfaceMatch::Interface(device.clone()));
        piece.head(&chain, Rule::when(matched, Target::Return));
    }
    piece
}

pub(super) fn block(block: &Block) -> Piece {
    let mut piece = Piece::default();
    let jump = Target::Jump(block.chain());
    let rule = match block.network.prefix_len() {
        0 => Rule::always(jump),
        1.. => Rule::when(block.path.far(Network::Prefix(block.network)), jump),
    };
    piece.chain(&block.chain());
    piece.tail(&block.path.dispatcher(), rule);
    piece
}

pub(super) fn part(part: &Shared, site: Site) -> Piece {
    match part {
        Shared::Clear => clear_part(),
        Shared::Apart => apart_part(),
        Shared::Exempt => exempt(Match::Policy(PolicyMatch::any_ipsec(Direction::Out))),
        Shared::ExemptDevice(device) => exempt(Match::Out(InterfaceMatch::Interface(device.clone()))),
        Shared::Hiding => hiding(),
        Shared::Guards => guards(site.family),
        Shared::Peers => {
            let mut piece = Piece::default();
            piece.chain(&Path::Peer.dispatcher());
            piece
        }
        Shared::Peer(address) => peer(*address),
    }
}

/// Where packets go on that neither came by IPsec nor will leave by it. Without a device's tunnel, a guard or a rule of the gateway there is
/// no such chain, and they meet two rules.
fn clear_part() -> Piece {
    let mut piece = Piece::default();
    piece.chain(&clear());
    piece.tail(&entrance(BuiltIn::Forward), Rule::always(Target::Goto(clear())));
    piece
}

/// The chains that packets in clear come to, and that tunnels' devices are told to.
fn apart_part() -> Piece {
    let mut piece = Piece::default();
    for direction in [Direction::In, Direction::Out] {
        piece.chain(&clear_here(direction));
        piece.chain(&only_beside_tunnels(direction));
    }
    for path in [Path::BlockIn, Path::BlockOut] {
        piece.chain(&path.dispatcher());
    }
    piece
}

/// At the tail, behind the tunnels that translate and those that leave it to others.
fn exempt(matched: Match) -> Piece {
    let mut piece = Piece::default();
    piece.tail(&entrance(BuiltIn::PostRouting), Rule::when(matched, Target::Accept));
    piece
}

/// A packet that a tunnel will hide is in clear as yet: its source is not the tunnel's. The kernel looks for a policy once more when
/// its source has been replaced. What this machine itself sends is left alone; ESP and IKE are among it.
fn hiding() -> Piece {
    let mut piece = Piece::default();
    piece.tail(
        &entrance(BuiltIn::PostRouting),
        Rule {
            matches: vec![Match::SrcNotLocal, Match::PolicyNone(Direction::Out)],
            target: Target::Jump(Path::NatOut.dispatcher()),
        },
    );
    piece
}

fn peer(address: IpAddr) -> Piece {
    let network = Network::host(address);
    let mut piece = Piece::default();
    piece.head(
        &Block::of(Path::Peer, &network).chain(),
        Rule::when(Match::Source(network), Target::Accept),
    );
    piece
}

/// Leads packets in clear to the blocks, before anybody can accept them: at the head, before the tunnels and the gateway's own rules.
fn guards(family: Family) -> Piece {
    let mut piece = Piece::default();
    for (direction, path, built_in) in [
        (Direction::In, Path::BlockIn, BuiltIn::Input),
        (Direction::Out, Path::BlockOut, BuiltIn::Output),
    ] {
        let (apart, blocks) = (apart(direction), Target::Jump(path.dispatcher()));
        piece.chain(&apart);
        for matches in indispensable(direction, family) {
            piece.tail(
                &apart,
                Rule {
                    matches,
                    target: Target::Return,
                },
            );
        }
        piece.tail(&apart, Rule::always(blocks.clone()));
        let entry = Rule::when(Match::PolicyNone(direction), Target::Jump(apart));
        piece.head(&entrance(built_in), entry);
        // What is forwarded is in clear in both directions where it comes here.
        piece.head(&clear(), Rule::always(blocks));
    }
    // What comes out of one tunnel must not go on in clear to a network that another tunnel leads to, and what comes in clear from there
    // must not go on into another tunnel. Before the tunnels: a chain of the administrator's may accept.
    for (tunnels, clear, blocks) in [
        (Path::ForwardIn, Direction::Out, Path::BlockOut),
        (Path::ForwardOut, Direction::In, Path::BlockIn),
    ] {
        piece.head(
            &tunnels.dispatcher(),
            Rule::when(Match::PolicyNone(clear), Target::Jump(blocks.dispatcher())),
        );
    }
    piece
}

/// What the gateway itself cannot do without for a tunnel to come up: IKE, ESP and AH, an address (DHCP) and neighbours (RFC 4861); errors
/// about what it has sent; and what it says to itself.
pub(super) fn indispensable(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let mut all = vec![vec![itself(direction)]];
    all.extend(ipsec(direction, family));
    all.extend(addresses_and_neighbours(direction, family));
    all
}

/// What the machine says to itself.
pub(super) fn itself(direction: Direction) -> Match {
    match direction {
        Direction::In => Match::In(InterfaceMatch::Loopback),
        Direction::Out => Match::Out(InterfaceMatch::Loopback),
    }
}

/// IKE, ESP and AH between this machine and another, as in RFC 7296, RFC 9329 (TCP), RFC 4303 and RFC 4302.
///
/// By our own ports: whoever could come in by sending from port 500 would reach every port. In TCP, where this machine may be the one
/// that connects, the other's port counts only for what belongs to such a connection.
pub(super) fn ipsec(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let mut all = ike(direction, family);
    all.extend(
        PROTOCOLS
            .into_iter()
            .flat_map(NonZeroU8::new)
            .map(|number| vec![Match::Traffic(direction, family, Traffic::Protocol(Protocol(number)))]),
    );
    all
}

/// ESP and AH.
pub(super) const PROTOCOLS: [u8; 2] = [50, 51];

pub(super) fn ike(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let ours = |protocol, port| Traffic::Ports {
        protocol,
        my: Ports::single(port),
        peer: Ports::Any,
    };
    let theirs = Traffic::Ports {
        protocol: PortProtocol::Tcp,
        my: Ports::Any,
        peer: Ports::single(4500),
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
pub(super) fn addresses_and_neighbours(direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let ports = match family {
        Family::Ipv4 => 67..=68,
        Family::Ipv6 => 546..=547,
    };
    let dhcp = Traffic::Ports {
        protocol: PortProtocol::Udp,
        my: Ports::Range(ports.clone()),
        peer: Ports::Range(ports),
    };
    let of = |traffic| Match::Traffic(direction, family, traffic);
    let mut all = vec![vec![of(dhcp)]];
    if family == Family::Ipv6 {
        all.extend(NEIGHBOURS.map(|kind| vec![of(Traffic::Icmp(Icmp::Type(kind)))]));
    }
    if let Some(number) = NonZeroU8::new(Protocol::icmp(family)) {
        let errors = of(Traffic::Protocol(Protocol(number)));
        all.push(vec![errors, Match::CtState(CtState::Related)]);
    }
    all
}

/// Types of ICMPv6 by which machines of a link find one another: multicast listeners (RFC 2710, RFC 3810), routers and neighbours (RFC 4861).
pub(super) const NEIGHBOURS: [u8; 8] = [130, 131, 132, 143, 133, 134, 135, 136];
