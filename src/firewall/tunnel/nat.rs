//! The nat rules of a tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::packet_path::PacketPath;
use super::rules::{TunnelChain, TunnelPart, TunnelRules};
use super::{
    NatExemption, PolicyContext, PolicyError, TunnelInput, connection_comment, excludes_packets, filter,
    tunnel_chain_name,
};
use crate::daemon::{ClientTranslation, SaMatch, Tunnel};
use crate::firewall::base_chains::base_chain;
use crate::firewall::dispatch::{OptionalChains, Precedence};
use crate::net::{Family, Network};
use crate::netfilter::{BuiltIn, Direction, Match, Rule, Table, Target};
use crate::settings::{Allow, Nat};

/// The nat rules of a tunnel by its settings.
pub(super) fn nat_parts(input: &TunnelInput<'_>) -> Result<Vec<TunnelPart>, PolicyError> {
    let TunnelInput { tunnel, context, .. } = input;
    let source_nats = context.policy.allow != Allow::None && tunnel.translation.is_none();
    Ok(match context.policy.nat {
        Nat::Exempt => exempt_from_nat(input),
        // No packet goes into a tunnel that allows nothing. And with client address translation the
        // local end is one address, with SNAT and DNAT rules of its own.
        Nat::Masquerade | Nat::Address(_) if !source_nats => exempt_from_nat(input),
        Nat::Leave => match context.nat_exemption {
            NatExemption::Possible => vec![skip_nat(input)],
            NatExemption::Never => Vec::new(),
        },
        Nat::Masquerade => source_nat(input, own_address(tunnel)?),
        // An address of the other family is for other tunnels of the connection.
        Nat::Address(address) if Family::of_address(address) != tunnel.family() => exempt_from_nat(input),
        Nat::Address(address) if !tunnel.local_client.contains(address) => {
            return Err(PolicyError::AddressOutside {
                address,
                local: tunnel.local_client,
            });
        }
        Nat::Address(address) => source_nat(input, address),
    })
}

fn exempt_from_nat(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let by_interface = input.exit_interface.cloned().map(OptionalChains::NatExemptInterface);
    let shared = std::iter::once(OptionalChains::NatExempt).chain(by_interface);
    shared.map(TunnelPart::Shared).collect()
}

/// Returns the tunnel's packets to the other rules, at the head, before the rules that exempt other
/// tunnels' packets.
fn skip_nat(input: &TunnelInput<'_>) -> TunnelPart {
    let rule = Rule {
        matches: input.matches(PacketPath::NatOut, Some(input.tunnel.local_client)),
        target: Target::Return,
    };
    TunnelPart::AtHead(Table::Nat, base_chain(BuiltIn::PostRouting), rule)
}

/// Client address translation: SNAT of packets from the gateway's own address to the address
/// that the peer assigned, and DNAT of packets to that address.
///
/// Only packets that this tunnel's policy matches: another tunnel's policy to the same network may
/// use another assigned address.
pub(super) fn translation_parts(input: &TunnelInput<'_>) -> Vec<TunnelPart> {
    let Some(ClientTranslation { assigned, own }) = input.tunnel.translation else {
        return Vec::new();
    };
    let directions = [
        (PacketPath::NatIn, assigned, Target::Dnat(own)),
        (PacketPath::NatOut, own, Target::Snat(assigned)),
    ];
    let parts = directions.map(|(path, local, target)| {
        let rule = Rule {
            matches: filter::selector_matches(input.tunnel, path.direction()),
            target,
        };
        input.chain(path, Precedence::Open, Network::host(local), vec![rule])
    });
    parts.into()
}

/// The gateway's own address in the tunnel: the local network if it is one address, else the first
/// source address in it.
fn own_address(tunnel: &Tunnel) -> Result<IpAddr, PolicyError> {
    let local = tunnel.local_client;
    let mut given = tunnel.source_addresses.iter().copied();
    if local.is_host(local.first()) {
        return Ok(local.first());
    }
    given
        .find(|address| local.contains(*address))
        .ok_or(PolicyError::NoLocalAddress { local })
}

/// Source-NATs the hosts behind the gateway: their packets to the remote network leave from this
/// address, and so match the tunnel's policy whatever their own address is; and replies are
/// accepted.
///
/// New connections that they begin are for other rules to forward, where their own addresses are
/// not in the tunnel: whoever can send to the gateway could use the tunnel otherwise.
fn source_nat(input: &TunnelInput<'_>, address: IpAddr) -> Vec<TunnelPart> {
    let tunnel = input.tunnel;
    // Packets outside the tunnel's protocol and port would leave unencrypted, with a source that is
    // unknown outside. So the match includes protocol and port.
    let snat = Rule {
        matches: filter::selector_matches(tunnel, Direction::Out),
        target: Target::Snat(address),
    };
    let kept = bypassed_networks(tunnel, input.context).into_iter();
    let kept = kept.map(|network| Rule::when(Match::Destination(Network::Prefix(network)), Target::Return));
    let chain = TunnelPart::Chain(TunnelChain {
        path: PacketPath::NatOut,
        precedence: Precedence::Open,
        name: tunnel_chain_name(input.id, PacketPath::NatOut.tag()),
        remote: tunnel.remote_client,
        conditions: source_nat_matches(input),
        rules: kept.chain([snat]).collect(),
    });
    let mut parts = exempt_from_nat(input);
    parts.extend([
        TunnelPart::Shared(OptionalChains::SourceNat),
        chain,
        accept_replies(input, address),
    ]);
    parts
}

/// The networks within the remote one to which packets keep their source: those that are set
/// (`bypass`), or else those that the gateway is connected to. Packets from one LAN to another, or
/// from outside to a published host, must not be pulled into the tunnel because the remote network
/// is 0.0.0.0/0.
///
/// Not a network that equals or covers the remote one: the tunnel leads there, and without source
/// NAT no packet would match its policy.
fn bypassed_networks(tunnel: &Tunnel, context: &PolicyContext<'_>) -> Vec<IpNet> {
    let remote = tunnel.remote_client;
    let networks = context.policy.bypass.as_deref().unwrap_or(context.connected);
    let is_inside = |network: &IpNet| {
        let network = Network::Prefix(*network);
        network.family() == remote.family() && network != remote && remote.covers(&network)
    };
    networks.iter().copied().filter(is_inside).collect()
}

/// The networks to which packets keep their source, by the rules of a tunnel.
#[must_use]
pub(crate) fn kept_sources(tunnel_rules: &TunnelRules) -> Vec<IpNet> {
    let rules = tunnel_rules
        .fragment(Table::Nat)
        .into_iter()
        .flat_map(|fragment| &fragment.rules);
    let kept = rules.filter_map(|placed| match (&placed.rule.target, &placed.rule.matches[..]) {
        (Target::Return, [Match::Destination(Network::Prefix(network))]) => Some(*network),
        _ => None,
    });
    kept.collect()
}

/// The alternative matches on packets to source-NAT: the packet already matches the tunnel's
/// policy, or it is unencrypted and goes to the remote network.
fn source_nat_matches(input: &TunnelInput<'_>) -> Vec<Vec<Match>> {
    let (tunnel, exit_interface) = (input.tunnel, input.exit_interface);
    let from_hosts_behind = |local: Option<Network>| {
        let mut matches = input.matches(PacketPath::NatOut, local);
        let last = matches.len().saturating_sub(1);
        // Interface matches come before those of extensions, as iptables lists them.
        match exit_interface {
            Some(_) => matches.push(Match::SrcNotLocal),
            None => matches.insert(last, Match::SrcNotLocal),
        }
        matches
    };
    let unencrypted = std::iter::once(PacketPath::NatOut.remote_match(tunnel.remote_client)).filter(excludes_packets);
    let unencrypted = unencrypted
        .chain([Match::SrcNotLocal, Match::PolicyNone(Direction::Out)])
        .collect();
    match exit_interface {
        // With an interface, the route alone decides, whatever the source is.
        Some(_) => vec![from_hosts_behind(None)],
        None => vec![from_hosts_behind(Some(tunnel.local_client)), unencrypted],
    }
}

/// Accepts replies to a source-NATed host. Its address is restored before FORWARD, so the tunnel's
/// selector does not match; conntrack knows the address that it was translated to.
fn accept_replies(input: &TunnelInput<'_>, address: IpAddr) -> TunnelPart {
    let tunnel = input.tunnel;
    let mut matches = input.matches(PacketPath::ForwardIn, None);
    let position = match tunnel.sa_match {
        SaMatch::Interface(_) => matches.len(),
        SaMatch::Policy { .. } => matches.len().saturating_sub(1),
    };
    matches.insert(position, Match::CtReplDst(address));
    TunnelPart::Chain(TunnelChain {
        path: PacketPath::ForwardIn,
        precedence: Precedence::Open,
        // H for hosts behind the gateway: not the tunnel's chain for this path, whose matches
        // differ.
        name: tunnel_chain_name(input.id, "H"),
        remote: tunnel.remote_client,
        conditions: vec![matches],
        rules: vec![Rule {
            matches: connection_comment(tunnel).map(Match::Comment).into_iter().collect(),
            target: PacketPath::ForwardIn.accept_target(),
        }],
    })
}
