//! The record of what is installed, in files.
//!
//! ```text
//! /run/pluto-updown/                    removed at boot, like the rules
//!   4026531840/                         one network namespace, by the inode of /proc/self/ns/net
//!     socket-11052209                   tells the namespace from a later one with its inode: the kernel's own rtnetlink socket there
//!     lock                              held for a whole change
//!     pending                           a change is under way; there after a crash only
//!     downs/0000000001-4711.1-2.{…      a `down` that is still to be executed, in the names of empty files; and spares for a full /run
//!     failed-ups/net-net-k3f9q2m7+_peer-…/… a tunnel that is up without rules, in the names of empty files
//!     daemons/2817-5120-4026531836      an IKE daemon that has tunnels here
//!     resolver/                         exists while a peer's name servers are in use
//!       lock                            locked while requests are executed, without the lock above
//!       requests/0000000001-4711        a call's request that is not yet executed
//!       state                           who uses name servers, and what was changed for them
//!       original, written, next         copies of resolv.conf: before the first user, as written, and as it is about to be written
//!       pending                         a change is in progress, or is not confirmed
//!     nft-ipv4/                         one ruleset
//!       place                           the jumps' position, the mark bit, the version of the chain layout
//!       tunnels/net-net-k3f9q2m7        one file per tunnel: who, since when, and every rule that is installed for it
//!       tunnels/_gateway                the same for the gateway's own rules; `_guard-…` for a blocked pair of networks, `_outer-…` for the ESP of a tunnel's peers
//!       tunnels/net-net-k3f9q2m7.new    the same, while its rules are being installed
//!       nodes/FI/10.2.0.0-18/…          who needs which shared chains: empty files
//!       nodes/_alike-…, nodes/_peer-…   tunnels with equal selectors, and tunnels of a peer whose selectors MOBIKE can change: empty files
//!     network/installed/10.2.0.0-24     the routes, addresses and interfaces that are installed for a remote network
//!     network/holders/address-10.1.0.1/… for which remote networks an object is installed: empty files
//! ```
//!
//! The folders under `nodes` mirror the chain tree: the first tunnel that needs a shared chain
//! makes its folder, the last one removes it. So a look-up costs the same for one tunnel and for
//! ten thousand. With the last tunnel (and the last user of name servers) everything is removed,
//! `/run/pluto-updown` included.
//!
//! Files are replaced by rename. A change writes the journal, `pending`, before it changes the
//! kernel, and removes it when the record is complete. A call that finds the file knows that
//! another call died in between.

mod activity;
mod any_record;
mod cache;
mod called;
mod change;
mod daemon_process;
mod erase;
mod error;
mod failed_ups;
pub(crate) mod file;
mod index;
mod installed;
mod journal;
mod lock;
mod namespace;
mod note;
mod opener;
mod owed;
mod reqid;
mod store;
mod tunnel;

pub(crate) use activity::Activity;
pub use any_record::Record;
pub(crate) use any_record::{ClearTextBlockRecord, EspPeerRecord, GatewayRecord};
pub use daemon_process::DaemonProcess;
pub(crate) use daemon_process::start_time;
pub(crate) use error::RecordError;
pub(crate) use failed_ups::FailedUp;
pub(crate) use installed::{Installed, LayoutVersion};
pub use journal::Journal;
pub(crate) use journal::Recovery;
pub(crate) use lock::{LOCK_PAUSE, Lock};
pub(crate) use opener::Opener;
pub use store::Store;
pub(crate) use store::{RecordList, TunnelSlot, absent_is_none};
pub use tunnel::{FORMAT, TunnelRecord};
