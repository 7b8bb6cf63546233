//! The parts of the chain tree that tunnels share. Each stands as long as a tunnel needs it.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::identity::short_hash;
use super::path::Path;
use super::piece::Piece;
use crate::netfilter::{
    BuiltIn, ChainName, Direction, InterfaceMatch, LONGEST_CHAIN_NAME, Match, PREFIX, PolicyMatch, Rule, Table, Verdict,
};
use crate::selector::{Device, DeviceClass, Network};

/// How many bits shorter than a tunnel's network its block is: 6, so that a block holds at most 64 networks of that size.
pub const BLOCK_BITS: u8 = 6;

/// A block: the tunnels of one path whose far networks lie close together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Block {
    /// The path.
    pub path: Path,
    /// What covers the far networks of all its tunnels.
    pub network: IpNet,
}

impl Block {
    /// The block of a far network.
    #[must_use]
    pub fn of(path: Path, far: &Network) -> Self {
        Self {
            path,
            network: far.cover(BLOCK_BITS),
        }
    }

    /// Its chain: `PLUTO-FI-10.2.0.0-18`, or with a hash where an IPv6 network would be too long. No two blocks share one:
    /// the readable form gives the network back, and the hash has 75 bits.
    #[must_use]
    pub fn chain(&self) -> ChainName {
        let tag = self.path.tag();
        let network = self.network.to_string().replace(':', ".").replace('/', "-");
        let readable = format!("{PREFIX}{tag}-{network}");
        let text = if readable.len() <= LONGEST_CHAIN_NAME {
            readable
        } else {
            format!(
                "{PREFIX}{tag}-{}-{}",
                short_hash(&network, 15),
                self.network.prefix_len()
            )
        };
        // Letters, digits, dots and dashes, and short enough by the line above: it parses.
        text.parse().unwrap_or_else(|_| self.path.dispatcher())
    }
}

/// One shared part of the tree. The order is that in which parts are put in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A table's jumps in the built-in chains, and what every tunnel needs that has something in the table.
    Base(Table),
    /// What tunnels with a device of their own need in the filter table.
    Devices,
    /// A class of devices, `vti+`.
    Class(Table, DeviceClass),
    /// One device, in the filter table.
    Device(Device),
    /// One block.
    Block(Block),
}

impl Node {
    /// The table that it is a part of.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Base(table) | Self::Class(table, _) => *table,
            Self::Devices | Self::Device(_) => Table::Filter,
            Self::Block(block) => block.path.table(),
        }
    }

    /// What it consists of.
    #[must_use]
    pub fn piece(&self) -> Piece {
        match self {
            Self::Base(Table::Filter) => filter_base(),
            Self::Base(Table::Nat) => nat_base(),
            Self::Devices => devices(),
            Self::Class(Table::Filter, class) => filter_class(class),
            Self::Class(Table::Nat, class) => nat_class(class),
            Self::Device(device) => device_piece(device),
            Self::Block(block) => block_piece(block),
        }
    }
}

/// What the record calls it: `base`, `nat-base`, `devices`, `class-vti+`, `nat-class-vti+`, `device-vti01`, `FI-10.2.0.0-18`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(Table::Filter) => f.write_str("base"),
            Self::Base(table @ Table::Nat) => write!(f, "{table}-base"),
            Self::Devices => f.write_str("devices"),
            Self::Class(Table::Filter, class) => write!(f, "class-{}", class.as_str()),
            Self::Class(table @ Table::Nat, class) => write!(f, "{table}-class-{}", class.as_str()),
            Self::Device(device) => write!(f, "device-{device}"),
            Self::Block(Block { path, network }) => {
                write!(f, "{}-{}-{}", path.tag(), network.addr(), network.prefix_len())
            }
        }
    }
}

pub(super) fn onward() -> ChainName {
    ChainName::literal("PLUTO-ONWARD")
}

fn from_devices() -> ChainName {
    ChainName::literal("PLUTO-FROM")
}

fn to_devices() -> ChainName {
    ChainName::literal("PLUTO-TO")
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
    Rule::always(Verdict::Jump(entrance(built_in)))
}

fn by_ipsec(direction: Direction, verdict: Verdict) -> Rule {
    Rule::when(Match::Policy(PolicyMatch::any(direction)), verdict)
}

fn by_class(path: Path, class: &DeviceClass, verdict: Verdict) -> Rule {
    Rule::when(path.device(InterfaceMatch::Class(class.clone())), verdict)
}

fn filter_base() -> Piece {
    let mut piece = Piece::default();
    for built_in in Table::Filter.built_in() {
        piece.chain(&entrance(*built_in));
    }
    piece.chain(&onward());
    for path in Path::of(Table::Filter) {
        piece.chain(&path.dispatcher());
    }
    for path in [Path::Input, Path::Output] {
        sort_ipsec(&mut piece, path);
    }
    forward_rules(&mut piece, &entrance(BuiltIn::Forward));
    onward_rules(&mut piece, &onward());
    enter(&mut piece, Table::Filter);
    piece
}

/// Before the administrator's own rules, as everywhere: what a tunnel translates, a MASQUERADE for all that leaves must not get first.
fn nat_base() -> Piece {
    let mut piece = Piece::default();
    for path in Path::of(Table::Nat) {
        piece.chain(&entrance(path.built_in()));
        piece.chain(&path.dispatcher());
        sort_ipsec(&mut piece, path);
    }
    enter(&mut piece, Table::Nat);
    piece
}

/// Sends what came or will leave by IPsec to the path's dispatcher; the others are through.
fn sort_ipsec(piece: &mut Piece, path: Path) {
    piece.tail(
        &entrance(path.built_in()),
        by_ipsec(path.direction(), Verdict::Jump(path.dispatcher())),
    );
}

fn enter(piece: &mut Piece, table: Table) {
    for built_in in table.built_in() {
        piece.head(*built_in, entrance_jump(*built_in));
    }
}

/// Sorts forwarded packets. The first rule is a goto and stands before the second: a packet that came by IPsec must be
/// allowed by the tunnel that it came from, and what that refuses must not be taken for clear text going into a tunnel.
fn forward_rules(piece: &mut Piece, chain: &ChainName) {
    piece.tail(
        chain,
        by_ipsec(Direction::In, Verdict::Goto(Path::ForwardIn.dispatcher())),
    );
    piece.tail(
        chain,
        by_ipsec(Direction::Out, Verdict::Goto(Path::ForwardOut.dispatcher())),
    );
}

/// Decides about what a first tunnel has allowed. Both ends must agree: what leaves by IPsec again is for the second tunnel to
/// allow, and goes there for good, so that its refusal does not end at the ACCEPT.
fn onward_rules(piece: &mut Piece, chain: &ChainName) {
    piece.tail(
        chain,
        by_ipsec(Direction::Out, Verdict::Goto(Path::ForwardOut.dispatcher())),
    );
    piece.tail(chain, Rule::always(Verdict::Accept));
}

/// `PLUTO-FROM` sorts packets from a device that is named like a tunnel's; those that are not from one of ours after all go
/// the way of all others. `PLUTO-TO` does the same for what a first tunnel has allowed and leaves by such a device.
fn devices() -> Piece {
    let mut piece = Piece::default();
    piece.chain(&from_devices());
    piece.chain(&to_devices());
    forward_rules(&mut piece, &from_devices());
    onward_rules(&mut piece, &to_devices());
    piece
}

fn filter_class(class: &DeviceClass) -> Piece {
    let (forward, output) = (entrance(BuiltIn::Forward), Path::ForwardOut.dispatcher());
    let mut piece = Piece::default();
    // At the head: a packet of a device tunnel bears no mark of IPsec, and were it tested for leaving by IPsec first, the
    // second tunnel alone would decide.
    piece.head(
        &forward,
        by_class(Path::ForwardIn, class, Verdict::Goto(from_devices())),
    );
    piece.tail(
        &forward,
        by_class(Path::ForwardOut, class, Verdict::Goto(output.clone())),
    );
    piece.tail(
        &from_devices(),
        by_class(Path::ForwardOut, class, Verdict::Goto(output)),
    );
    // At the head, before the ACCEPT.
    piece.head(
        &onward(),
        by_class(Path::ForwardOut, class, Verdict::Goto(to_devices())),
    );
    for path in [Path::Input, Path::Output] {
        sort_class(&mut piece, path, class);
    }
    piece
}

fn nat_class(class: &DeviceClass) -> Piece {
    let mut piece = Piece::default();
    for path in Path::of(Table::Nat) {
        sort_class(&mut piece, path, class);
    }
    piece
}

/// Sends what came in or will leave by such a device to the path's dispatcher.
fn sort_class(piece: &mut Piece, path: Path, class: &DeviceClass) {
    piece.tail(
        &entrance(path.built_in()),
        by_class(path, class, Verdict::Jump(path.dispatcher())),
    );
}

fn device_piece(device: &Device) -> Piece {
    let mut piece = Piece::default();
    for (chain, path) in [(from_devices(), Path::ForwardIn), (to_devices(), Path::ForwardOut)] {
        let matched = path.device(InterfaceMatch::Device(device.clone()));
        piece.head(&chain, Rule::when(matched, Verdict::Goto(path.dispatcher())));
    }
    piece
}

fn block_piece(block: &Block) -> Piece {
    let mut piece = Piece::default();
    let jump = Verdict::Jump(block.chain());
    let rule = match block.network.prefix_len() {
        0 => Rule::always(jump),
        1.. => Rule::when(block.path.far(Network::Prefix(block.network)), jump),
    };
    piece.chain(&block.chain());
    piece.tail(&block.path.dispatcher(), rule);
    piece
}
