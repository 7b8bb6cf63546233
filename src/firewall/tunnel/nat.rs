//! The nat rules of a tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::identity::TunnelId;
use super::packet_path::PacketPath;
use super::rules::{TunnelChain, TunnelRules};
use super::{
    NatExemption, PolicyContext, PolicyError, connection_comment, excludes_packets, filter, tunnel_chain_name,
    tunnel_matches,
};
use crate::daemon::{SaMatch, Tunnel};
use crate::firewall::base_chains::base_chain;
use crate::firewall::dispatch::{OptionalChains, Precedence};
use crate::net::{Family, Interface, Network};
use crate::netfilter::{BuiltIn, Direction, Match, Rule, RulePosition, Table, Target};
use crate::settings::{Allow, Nat};

/// Adds the nat rules of a tunnel.
pub(crate) fn add_nat(
    tunnel_rules: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    context: &PolicyContext<'_>,
    exit_interface: Option<&Interface>,
) -> Result<(), PolicyError> {
    let source_nats = context.policy.allow != Allow::None && tunnel.translation.is_none();
    match context.policy.nat {
        Nat::Exempt => exempt_from_nat(tunnel_rules, exit_interface),
        // No packet goes into a tunnel that allows nothing. And with client address translation the
        // local end is one address, with SNAT and DNAT rules of its own.
        Nat::Masquerade | Nat::Address(_) if !source_nats => exempt_from_nat(tunnel_rules, exit_interface),
        Nat::Leave => match context.nat_exemption {
            NatExemption::Possible => skip_nat(tunnel_rules, tunnel, exit_interface),
            NatExemption::Never => {}
        },
        Nat::Masquerade => {
            let address = own_address(tunnel)?;
            add_source_nat(tunnel_rules, tunnel, id, context, exit_interface, address);
        }
        // An address of the other family is for other tunnels of the connection.
        Nat::Address(address) if Family::of_address(address) != tunnel.family() => {
            exempt_from_nat(tunnel_rules, exit_interface);
        }
        Nat::Address(address) if !tunnel.local_client.contains(address) => {
            return Err(PolicyError::AddressOutside {
                address,
                local: tunnel.local_client,
            });
        }
        Nat::Address(address) => add_source_nat(tunnel_rules, tunnel, id, context, exit_interface, address),
    }
    Ok(())
}

fn exempt_from_nat(tunnel_rules: &mut TunnelRules, exit_interface: Option<&Interface>) {
    tunnel_rules.optional.insert(OptionalChains::NatExempt);
    tunnel_rules
        .optional
        .extend(exit_interface.cloned().map(OptionalChains::NatExemptInterface));
}

/// Returns the tunnel's packets to the other rules, at the head, before the rules that exempt other
/// tunnels' packets.
fn skip_nat(tunnel_rules: &mut TunnelRules, tunnel: &Tunnel, exit_interface: Option<&Interface>) {
    let rule = Rule {
        matches: tunnel_matches(tunnel, PacketPath::NatOut, Some(tunnel.local_client), exit_interface),
        target: Target::Return,
    };
    tunnel_rules.add_rule(Table::Nat, &base_chain(BuiltIn::PostRouting), RulePosition::Head, rule);
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
fn add_source_nat(
    tunnel_rules: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    context: &PolicyContext<'_>,
    exit_interface: Option<&Interface>,
    address: IpAddr,
) {
    exempt_from_nat(tunnel_rules, exit_interface);
    tunnel_rules.optional.insert(OptionalChains::SourceNat);
    // Packets outside the tunnel's protocol and port would leave unencrypted, with a source that is
    // unknown outside. So the match includes protocol and port.
    let snat = Rule {
        matches: filter::selector_matches(tunnel, Direction::Out),
        target: Target::Snat(address),
    };
    let kept = bypassed_networks(tunnel, context).into_iter();
    let kept = kept.map(|network| Rule::when(Match::Destination(Network::Prefix(network)), Target::Return));
    tunnel_rules.attach(TunnelChain {
        path: PacketPath::NatOut,
        precedence: Precedence::Open,
        name: tunnel_chain_name(id, PacketPath::NatOut.tag()),
        remote: tunnel.remote_client,
        conditions: source_nat_matches(tunnel, exit_interface),
        rules: kept.chain([snat]).collect(),
    });
    accept_replies(tunnel_rules, tunnel, id, exit_interface, address);
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
fn source_nat_matches(tunnel: &Tunnel, exit_interface: Option<&Interface>) -> Vec<Vec<Match>> {
    let from_hosts_behind = |local: Option<Network>| {
        let mut matches = tunnel_matches(tunnel, PacketPath::NatOut, local, exit_interface);
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
fn accept_replies(
    tunnel_rules: &mut TunnelRules,
    tunnel: &Tunnel,
    id: &TunnelId,
    exit_interface: Option<&Interface>,
    address: IpAddr,
) {
    let mut matches = tunnel_matches(tunnel, PacketPath::ForwardIn, None, exit_interface);
    let position = match tunnel.sa_match {
        SaMatch::Interface(_) => matches.len(),
        SaMatch::Policy { .. } => matches.len().saturating_sub(1),
    };
    matches.insert(position, Match::CtReplDst(address));
    tunnel_rules.attach(TunnelChain {
        path: PacketPath::ForwardIn,
        precedence: Precedence::Open,
        // H for hosts behind the gateway: not the tunnel's chain for this path, whose matches
        // differ.
        name: tunnel_chain_name(id, "H"),
        remote: tunnel.remote_client,
        conditions: vec![matches],
        rules: vec![Rule {
            matches: connection_comment(tunnel).map(Match::Comment).into_iter().collect(),
            target: PacketPath::ForwardIn.accept_target(),
        }],
    });
}
