//! `explain` follows our rules as data. Here the same packets go through the emulator, which reads their text: both must say the same,
//! whatever is set, whichever tunnels are up, and however little is known of the packet.

mod agreement;
mod packets;
mod sentences;
mod worlds;
