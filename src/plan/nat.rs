//! What becomes of the addresses of a tunnel's packets.

use std::net::IpAddr;

use super::identity::TunnelId;
use super::tunnel_rules::{TunnelRules, TunnelChain};
use super::packet_path::PacketPath;
use super::base_chains::base_chain;
use super::dispatch::OptionalChains;
use super::tunnel::{NatExemption, PolicyError, PolicyContext, is_restrictive, tunnel_chain_name, tunnel_matches, connection_comment};
use crate::contract::{Attachment, Tunnel};
use crate::netfilter::{BuiltIn, Direction, Match, Rule, RulePosition, Table, Target};
use crate::selector::{Device, Family, Network};
use crate::settings::{Allow, Nat};

/// Decides what becomes of them.
pub(super) fn add_nat(
    layout: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    terms: &PolicyContext<'_>,
    exit: Option<&Device>,
) -> Result<(), PolicyError> {
    let hides = terms.policy.allow != Allow::None && tunnel.translation.is_none();
    match terms.policy.nat {
        Nat::Exempt => exempt_from_nat(layout, exit),
        // Nothing goes into a tunnel that allows nothing. And where libreswan translates itself, both ends are single addresses.
        Nat::Masquerade | Nat::Address(_) if !hides => exempt_from_nat(layout, exit),
        Nat::Leave => match terms.nat_exemption {
            NatExemption::Possible => skip_nat(layout, tunnel, exit),
            NatExemption::Never => {}
        },
        Nat::Masquerade => add_source_nat(layout, tunnel, id, exit, own_address(tunnel)?),
        // An address of the other family is for other tunnels of the connection.
        Nat::Address(address) if Family::of(address) != tunnel.family() => exempt_from_nat(layout, exit),
        Nat::Address(address) if !tunnel.my_client.contains(address) => {
            return Err(PolicyError::AddressOutside {
                address,
                near: tunnel.my_client,
            });
        }
        Nat::Address(address) => add_source_nat(layout, tunnel, id, exit, address),
    }
    Ok(())
}

fn exempt_from_nat(layout: &mut TunnelRules, exit: Option<&Device>) {
    layout.optional.insert(OptionalChains::NatExempt);
    layout.optional.extend(exit.cloned().map(OptionalChains::NatExemptInterface));
}

/// Sends the tunnel's packets back to the other rules, at the head, before what exempts those of others.
fn skip_nat(layout: &mut TunnelRules, tunnel: &Tunnel, exit: Option<&Device>) {
    let rule = Rule {
        matches: tunnel_matches(tunnel, PacketPath::NatOut, Some(tunnel.my_client), exit),
        target: Target::Return,
    };
    layout.add_rule(Table::Nat, &base_chain(BuiltIn::PostRouting), RulePosition::Head, rule);
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
        .ok_or(PolicyError::NoLocalAddress { near })
}

/// Hides the machines behind us: what they send to the far network leaves from this address, and so goes into the tunnel whatever address
/// they have; and what answers them comes back to them.
///
/// New connections that they begin are for other rules to forward, where their own addresses are not in the tunnel: whoever can send to
/// the gateway could use the tunnel otherwise.
fn add_source_nat(layout: &mut TunnelRules, tunnel: &Tunnel, id: &TunnelId, exit: Option<&Device>, address: IpAddr) {
    exempt_from_nat(layout, exit);
    layout.optional.insert(OptionalChains::SourceNat);
    let rule = Rule {
        matches: connection_comment(tunnel).map(Match::Comment).into_iter().collect(),
        target: Target::Snat(address),
    };
    layout.attach(TunnelChain {
        path: PacketPath::NatOut,
        name: tunnel_chain_name(id, PacketPath::NatOut.tag()),
        remote: tunnel.peer_client,
        conditions: source_nat_matches(tunnel, exit),
        rules: vec![rule],
    });
    accept_replies(layout, tunnel, id, exit, address);
}

/// By what a packet is known whose source is to be hidden: its own address is in the tunnel already, or it is in clear on its way to the
/// far network.
fn source_nat_matches(tunnel: &Tunnel, exit: Option<&Device>) -> Vec<Vec<Match>> {
    let with_foreign = |near: Option<Network>| {
        let mut matches = tunnel_matches(tunnel, PacketPath::NatOut, near, exit);
        let last = matches.len().saturating_sub(1);
        // Device matches come before those with a name, as iptables shows them.
        match exit {
            Some(_) => matches.push(Match::SrcNotLocal),
            None => matches.insert(last, Match::SrcNotLocal),
        }
        matches
    };
    let in_clear = std::iter::once(PacketPath::NatOut.remote_match(tunnel.peer_client)).filter(is_restrictive);
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
fn accept_replies(layout: &mut TunnelRules, tunnel: &Tunnel, id: &TunnelId, exit: Option<&Device>, address: IpAddr) {
    let mut matches = tunnel_matches(tunnel, PacketPath::ForwardIn, None, exit);
    let behind = match tunnel.attachment {
        Attachment::Device(_) => matches.len(),
        Attachment::Policy { .. } => matches.len().saturating_sub(1),
    };
    matches.insert(behind, Match::CtReplDst(address));
    layout.attach(TunnelChain {
        path: PacketPath::ForwardIn,
        name: tunnel_chain_name(id, "H"),
        remote: tunnel.peer_client,
        conditions: vec![matches],
        rules: vec![Rule {
            matches: connection_comment(tunnel).map(Match::Comment).into_iter().collect(),
            target: PacketPath::ForwardIn.accept_target(),
        }],
    });
}
