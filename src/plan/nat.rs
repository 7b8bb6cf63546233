//! What becomes of the addresses of a tunnel's packets.

use std::net::IpAddr;

use super::allowance;
use super::identity::TunnelId;
use super::layout::{Layout, OwnChain};
use super::path::Path;
use super::shared::entrance;
use super::tree::Shared;
use super::tunnel::{Exempting, PolicyError, Terms, asks, chain, conditions, note};
use crate::contract::{Attachment, Tunnel};
use crate::netfilter::{BuiltIn, Direction, Match, Rule, RulePosition, Table, Target};
use crate::selector::{Device, Family, Network};
use crate::settings::{Allow, Nat};

/// Decides what becomes of them.
pub(super) fn lay_out(
    layout: &mut Layout,
    tunnel: &Tunnel,
    id: &TunnelId,
    terms: &Terms<'_>,
    exit: Option<&Device>,
) -> Result<(), PolicyError> {
    let hides = terms.policy.allow != Allow::None && tunnel.translation.is_none();
    match terms.policy.nat {
        Nat::Exempt => exempt(layout, exit),
        // Nothing goes into a tunnel that allows nothing. And where libreswan translates itself, both ends are single addresses.
        Nat::Masquerade | Nat::Address(_) if !hides => exempt(layout, exit),
        Nat::Leave => match terms.exempting {
            Exempting::Some => leave(layout, tunnel, exit),
            Exempting::Nobody => {}
        },
        Nat::Masquerade => hide(layout, tunnel, id, exit, own_address(tunnel)?),
        // An address of the other family is for other tunnels of the connection.
        Nat::Address(address) if Family::of(address) != tunnel.family() => exempt(layout, exit),
        Nat::Address(address) if !tunnel.my_client.contains(address) => {
            return Err(PolicyError::AddressOutside {
                address,
                near: tunnel.my_client,
            });
        }
        Nat::Address(address) => hide(layout, tunnel, id, exit, address),
    }
    Ok(())
}

fn exempt(layout: &mut Layout, exit: Option<&Device>) {
    layout.shared.insert(Shared::Exempt);
    layout.shared.extend(exit.cloned().map(Shared::ExemptDevice));
}

/// Sends the tunnel's packets back to the other rules, at the head, before what exempts those of others.
fn leave(layout: &mut Layout, tunnel: &Tunnel, exit: Option<&Device>) {
    let rule = Rule {
        matches: conditions(tunnel, Path::NatOut, Some(tunnel.my_client), exit),
        target: Target::Return,
    };
    layout.put(Table::Nat, &entrance(BuiltIn::PostRouting), RulePosition::Head, rule);
}

/// The gateway's own address in the tunnel: its end of it if that is one address, or the first that it was given there.
fn own_address(tunnel: &Tunnel) -> Result<IpAddr, PolicyError> {
    let near = tunnel.my_client;
    let mut given = tunnel.source_addresses.iter().copied();
    if near.is_host(near.first()) {
        return Ok(near.first());
    }
    given
        .find(|address| near.contains(*address))
        .ok_or(PolicyError::NoOwnAddress { near })
}

/// Hides the machines behind us: what they send to the far network leaves from this address, and so goes into the tunnel whatever address
/// they have; and what answers them comes back to them.
///
/// New connections that they begin are for other rules to forward, where their own addresses are not in the tunnel: whoever can send to
/// the gateway could use the tunnel otherwise.
fn hide(layout: &mut Layout, tunnel: &Tunnel, id: &TunnelId, exit: Option<&Device>, address: IpAddr) {
    exempt(layout, exit);
    layout.shared.insert(Shared::Hiding);
    // What the selectors do not take would leave unencrypted, with a source that nobody outside knows.
    let rule = Rule {
        matches: allowance::selected(tunnel, Direction::Out),
        target: Target::Snat(address),
    };
    layout.hang(OwnChain {
        path: Path::NatOut,
        name: chain(id, Path::NatOut.tag()),
        far: tunnel.peer_client,
        conditions: hidden(tunnel, exit),
        rules: vec![rule],
    });
    answers(layout, tunnel, id, exit, address);
}

/// By what a packet is known whose source is to be hidden: its own address is in the tunnel already, or it is in clear on its way to the
/// far network.
fn hidden(tunnel: &Tunnel, exit: Option<&Device>) -> Vec<Vec<Match>> {
    let with_foreign = |near: Option<Network>| {
        let mut matches = conditions(tunnel, Path::NatOut, near, exit);
        let last = matches.len().saturating_sub(1);
        // Device matches come before those with a name, as iptables shows them.
        match exit {
            Some(_) => matches.push(Match::SrcNotLocal),
            None => matches.insert(last, Match::SrcNotLocal),
        }
        matches
    };
    let in_clear = std::iter::once(Path::NatOut.far(tunnel.peer_client)).filter(asks);
    let in_clear = in_clear
        .chain([Match::SrcNotLocal, Match::PolicyNone(Direction::Out)])
        .collect();
    match exit {
        // The route alone leads into a device, whatever the source is.
        Some(_) => vec![with_foreign(None)],
        None => vec![with_foreign(Some(tunnel.my_client)), in_clear],
    }
}

/// Lets in what answers a hidden machine. Its address has been put back before FORWARD, so that it does not look like this tunnel's; the
/// table of connections knows which address it was hidden behind.
fn answers(layout: &mut Layout, tunnel: &Tunnel, id: &TunnelId, exit: Option<&Device>, address: IpAddr) {
    let mut matches = conditions(tunnel, Path::ForwardIn, None, exit);
    let behind = match tunnel.attachment {
        Attachment::Device(_) => matches.len(),
        Attachment::Policy { .. } => matches.len().saturating_sub(1),
    };
    matches.insert(behind, Match::CtReplDst(address));
    layout.hang(OwnChain {
        path: Path::ForwardIn,
        name: chain(id, "H"),
        far: tunnel.peer_client,
        conditions: vec![matches],
        rules: vec![Rule {
            matches: note(tunnel).map(Match::Comment).into_iter().collect(),
            target: Path::ForwardIn.allowed(),
        }],
    });
}
