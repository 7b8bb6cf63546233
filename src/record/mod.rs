//! What is installed, remembered in files.
//!
//! ```text
//! /run/pluto-updown/                    gone at boot, like the rules
//!   4026531840/                         one network namespace, by the inode of /proc/self/ns/net
//!     socket-11052209                   tells the namespace from a later one with its inode: the kernel's own rtnetlink socket there
//!     lock                              held for a whole change
//!     pending                           a change is under way; there after a crash only
//!     downs/0000000001-4711.1-2.{…      a `down` that is still to be executed, in the names of empty files; and spares for a full /run
//!     failed-ups/net-net-k3f9q2m7+_peer-…/… a tunnel that is up without rules, in the names of empty files
//!     daemons/2817-5120-4026531836      an IKE daemon that has tunnels here
//!     resolver/                         there as long as a peer's name servers are in use
//!       lock                            held while it is worked on, by calls that do not hold the other one
//!       requests/0000000001-4711   what a call asks and nobody has done yet
//!       state                           who uses name servers, and what they have changed
//!       original, written, next         resolv.conf as it will be again, as it was written, and as it is about to be
//!       pending                         a change is under way, or is not confirmed
//!     nft-ipv4/                         one ruleset
//!       place                           where our jumps stand, the bit of the mark, how the chains hang together
//!       tunnels/net-net-k3f9q2m7        one file a tunnel: who, since when, and every rule that is in for it
//!       tunnels/_gateway                the same for what `start` has put in, `_guard-…` for what holds two networks apart
//!       tunnels/net-net-k3f9q2m7.new    the same, while its rules are being put in
//!       nodes/FI-10.2.0.0-18/…          who needs which shared part of the chain tree: empty files
//!       nodes/_alike-…, nodes/_peer-…  what has equal selectors, and what a peer has up whose selectors can change: empty files
//!     network/installed/10.2.0.0-24     the routes, addresses and devices that are in for a far network
//!     network/holders/address-10.1.0.1/…  for which far networks something is in: empty files
//! ```
//!
//! The folders under `nodes` mirror the chain tree: the first tunnel makes one, the last removes
//! it, and finding out costs the same however many tunnels there are. With the last tunnel of all
//! (and the last user of name servers) everything goes, down to `/run/pluto-updown` itself.
//!
//! Files are written beside and renamed over. A change writes `journal` before it touches the
//! kernel and removes it when the record is right again, so that a call that finds it knows that
//! another died between the two.

mod any_record;
mod called;
mod change;
mod daemon_process;
mod erase;
mod error;
mod failed_ups;
mod file;
mod journal;
mod lock;
mod namespace;
mod note;
mod opener;
mod owed;
mod reqid;
mod resolver;
mod routing;
mod store;
mod tunnel;

pub use any_record::{ClearTextBlockRecord, EspPeerRecord, GatewayRecord, Record};
pub use daemon_process::{DaemonProcess, start_time};
pub use error::RecordError;
pub use failed_ups::FailedUp;
pub use journal::{Journal, Recovery};
pub use lock::{LOCK_PAUSE, Lock};
pub use opener::{Certainty, Opener};
pub use owed::OwedDown;
pub use resolver::{
    Confirmation, FileCopies, FileIdentity, LinkRecord, LinkSettings, LinkWord, NameServerMeans, NameUser, ProcessRun,
    ResolverRecord, ResolverRequest, ResolverStore,
};
pub use routing::RoutingRecord;
pub use store::{Installed, LayoutVersion, Store, TunnelSlot};
pub use tunnel::{FORMAT, TunnelRecord};
