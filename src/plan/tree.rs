//! The parts of the chain tree that tunnels share. Each stands as long as a tunnel needs it.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::identity::short_hash;
use super::piece::Piece;
use crate::netfilter::{
    BuiltIn, ChainName, Direction, InterfaceMatch, LONGEST_CHAIN_NAME, Match, PREFIX, PolicyMatch, Rule, Verdict,
};
use crate::selector::{Device, DeviceClass, Network};

/// How many bits shorter than a tunnel's network its block is: 6, so that a block holds at most 64 networks of that size.
pub const BLOCK_BITS: u8 = 6;

/// One of the four ways through a gateway that have to do with a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Path {
    /// Out of a tunnel, to the gateway itself.
    #[serde(rename = "I")]
    Input,
    /// Of the gateway itself, into a tunnel.
    #[serde(rename = "O")]
    Output,
    /// Out of a tunnel, through the gateway.
    #[serde(rename = "FI")]
    ForwardIn,
    /// Through the gateway, into a tunnel.
    #[serde(rename = "FO")]
    ForwardOut,
}

impl Path {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Input, Self::Output, Self::ForwardIn, Self::ForwardOut];

    /// How chain names show it.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Input => "I",
            Self::Output => "O",
            Self::ForwardIn => "FI",
            Self::ForwardOut => "FO",
        }
    }

    /// Whether packets come out of the tunnel or go into it.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Input | Self::ForwardIn => Direction::In,
            Self::Output | Self::ForwardOut => Direction::Out,
        }
    }

    /// The chain that sorts this path's packets into blocks.
    #[must_use]
    pub fn dispatcher(self) -> ChainName {
        ChainName::literal(match self {
            Self::Input => "PLUTO-I",
            Self::Output => "PLUTO-O",
            Self::ForwardIn => "PLUTO-FI",
            Self::ForwardOut => "PLUTO-FO",
        })
    }

    /// The built-in chain that its packets come through.
    #[must_use]
    pub fn built_in(self) -> BuiltIn {
        match self {
            Self::Input => BuiltIn::Input,
            Self::Output => BuiltIn::Output,
            Self::ForwardIn | Self::ForwardOut => BuiltIn::Forward,
        }
    }

    /// What becomes of a packet that its tunnel allows.
    ///
    /// One that came out of a tunnel and passes through may go into a second tunnel, which has to allow it too.
    #[must_use]
    pub fn allowed(self) -> Verdict {
        match self {
            Self::Input | Self::Output | Self::ForwardOut => Verdict::Accept,
            Self::ForwardIn => Verdict::Jump(onward()),
        }
    }

    /// The match on the far network: packets come from it, or go to it.
    pub(super) fn far(self, network: Network) -> Match {
        match self.direction() {
            Direction::In => Match::Source(network),
            Direction::Out => Match::Destination(network),
        }
    }

    /// The match on the network behind us.
    pub(super) fn near(self, network: Network) -> Match {
        match self.direction() {
            Direction::In => Match::Destination(network),
            Direction::Out => Match::Source(network),
        }
    }

    /// The match on the device that the packet came in or will leave by.
    pub(super) fn device(self, interface: InterfaceMatch) -> Match {
        match self.direction() {
            Direction::In => Match::In(interface),
            Direction::Out => Match::Out(interface),
        }
    }
}

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
    /// The jumps in the built-in chains and what every tunnel needs.
    Base,
    /// What tunnels with a device of their own need.
    Devices,
    /// A class of devices, `vti+`.
    Class(DeviceClass),
    /// One device.
    Device(Device),
    /// One block.
    Block(Block),
}

impl Node {
    /// What it consists of.
    #[must_use]
    pub fn piece(&self) -> Piece {
        match self {
            Self::Base => base(),
            Self::Devices => devices(),
            Self::Class(class) => class_piece(class),
            Self::Device(device) => device_piece(device),
            Self::Block(block) => block_piece(block),
        }
    }
}

/// What the record calls it: `base`, `devices`, `class-vti+`, `device-vti01`, `FI-10.2.0.0-18`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("base"),
            Self::Devices => f.write_str("devices"),
            Self::Class(class) => write!(f, "class-{}", class.as_str()),
            Self::Device(device) => write!(f, "device-{device}"),
            Self::Block(Block { path, network }) => {
                write!(f, "{}-{}-{}", path.tag(), network.addr(), network.prefix_len())
            }
        }
    }
}

fn onward() -> ChainName {
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

fn base() -> Piece {
    let mut piece = Piece::default();
    let (input, forward, output) = (
        entrance(BuiltIn::Input),
        entrance(BuiltIn::Forward),
        entrance(BuiltIn::Output),
    );
    for chain in [&input, &forward, &output, &onward()] {
        piece.chain(chain);
    }
    for path in Path::ALL {
        piece.chain(&path.dispatcher());
    }
    piece.tail(&input, by_ipsec(Direction::In, Verdict::Jump(Path::Input.dispatcher())));
    piece.tail(
        &output,
        by_ipsec(Direction::Out, Verdict::Jump(Path::Output.dispatcher())),
    );
    forward_rules(&mut piece, &forward);
    onward_rules(&mut piece, &onward());
    for built_in in BuiltIn::ALL {
        piece.head(built_in, entrance_jump(built_in));
    }
    piece
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

fn class_piece(class: &DeviceClass) -> Piece {
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
    for (built_in, path) in [(BuiltIn::Input, Path::Input), (BuiltIn::Output, Path::Output)] {
        piece.tail(
            &entrance(built_in),
            by_class(path, class, Verdict::Jump(path.dispatcher())),
        );
    }
    piece
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
