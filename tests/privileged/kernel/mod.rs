//! What we do to the kernel's network configuration, beside what `ip` does. They need root.

mod model;
mod policies;
mod questions;
mod refusals;
mod twins;
mod vti;

use crate::support::namespace::Namespace;
use pluto_updown::netfilter::Backend;
use pluto_updown::netlink::{Deleted, InstallResult, Kernel, NetConfig as _, NetObject, Route};

/// A gateway with one link, whose hardware addresses are the same in every namespace.
const GATEWAY: &str = "
    ip link set lo up
    ip link add eth0 address 02:00:00:00:00:01 type veth peer name far address 02:00:00:00:00:02
    for device in eth0 far; do
        ip link set $device addrgenmode none
        ip link set $device up
    done
    ip link add down0 address 02:00:00:00:00:03 type veth peer name down1 address 02:00:00:00:00:04
    ip -4 address add 192.0.2.1/24 dev eth0
    ip -6 address add 2001:db8::1/64 dev eth0 nodad
    until ip -o route get 2001:db8::1 | grep -q '^local '; do sleep 0.01; done
    for device in eth0 far; do
        until ip link show $device | grep -q 'state UP'; do sleep 0.01; done
        until ip -6 route show table local | grep -q \"ff00::/8 dev $device\"; do sleep 0.01; done
    done
";

fn gateway() -> Namespace {
    let namespace = Namespace::bare(Backend::Nft);
    namespace.shell(GATEWAY);
    namespace
}

fn route(destination: &str, interface: &str) -> Route {
    Route {
        interface: Some(interface.parse().unwrap()),
        ..Route::to(destination.parse().unwrap())
    }
}

/// Puts an item in, with a socket of its own.
fn install_item(namespace: &Namespace, item: &NetObject) -> Result<InstallResult, String> {
    namespace.inside(|| Kernel::open().unwrap().install(item).map_err(|error| error.to_string()))
}

fn take_out(namespace: &Namespace, item: &NetObject) -> Result<Deleted, String> {
    namespace.inside(|| Kernel::open().unwrap().delete(item).map_err(|error| error.to_string()))
}

/// All that the kernel says of its network configuration; routes sorted, because those of an interface stand where it came up.
fn configuration(namespace: &Namespace) -> String {
    namespace.shell(
        "for family in -4 -6; do
            ip -d $family route show table all | sort
            ip -d $family rule show
            ip $family neigh show proxy
        done
        ip -d address show",
    )
}
