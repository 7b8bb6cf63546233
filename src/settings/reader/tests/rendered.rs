//! Settings written as a file.

use std::fmt::{Display, Write as _};

use super::*;
use crate::settings::connection::PolicyOverrides;
use crate::settings::gateway::{Gateway, IpsecOnlyScope, Through};
use crate::settings::policy::{Allow, Mss, Nat};

/// Settings as a file would have them. Every key that is set is written.
pub(super) fn rendered(settings: &Settings) -> String {
    let Settings {
        gateway,
        tunnel,
        connections,
    } = settings;
    let mut text = format!("[gateway]\n{}", gateway_text(gateway));
    let keys = PolicyOverrides {
        allow: Some(tunnel.allow.clone()),
        host_access: Some(tunnel.host_access),
        nat: Some(tunnel.nat),
        bypass: Some(tunnel.bypass.clone()),
        mss: Some(tunnel.mss),
        log: Some(tunnel.log),
        when_down: Some(tunnel.when_down),
        chain: Some(tunnel.chain.clone()),
        on_error: Some(tunnel.on_error),
    };
    write!(text, "[tunnel]\n{}", keys_text(&keys)).unwrap();
    for connection in connections {
        write!(text, "[[connection]]\n{}", connection_text(connection)).unwrap();
    }
    text
}

fn word<T: PartialEq>(words: &[(&'static str, T)], meaning: &T) -> String {
    let (word, _) = words.iter().find(|(_, known)| known == meaning).unwrap();
    quoted(word)
}

fn quoted(text: impl Display) -> String {
    format!("{:?}", text.to_string())
}

fn list<T: Display>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "))
}

fn gateway_text(gateway: &Gateway) -> String {
    let Gateway {
        ike,
        esp,
        peers,
        through,
        only_ipsec,
        icmp,
        inner_only,
        place,
        mark,
    } = gateway;
    let through = match through {
        Through::Listed(machines) => list(machines),
        Through::Allow | Through::Deny | Through::Leave => word(&gateway::THROUGH, through),
    };
    let only_ipsec: Vec<_> = only_ipsec
        .iter()
        .map(|neighbour| match neighbour {
            IpsecOnlyScope::Interface(interface) => interface.to_string(),
            IpsecOnlyScope::Peer(network) => network.to_string(),
        })
        .collect();
    let lines = [
        ("ike", word(&gateway::IKE, ike)),
        ("esp", word(&gateway::ESP, esp)),
        ("peers", list(peers)),
        ("through", through),
        ("only-ipsec", list(&only_ipsec)),
        ("icmp", word(&gateway::ICMP, icmp)),
        ("inner-only", list(inner_only)),
        ("place", word(&gateway::PLACE, place)),
        ("mark", quoted(mark)),
    ];
    lines.map(|(key, value)| format!("{key} = {value}\n")).concat()
}

fn keys_text(keys: &PolicyOverrides) -> String {
    let PolicyOverrides {
        allow,
        host_access,
        nat,
        bypass,
        mss,
        log,
        when_down,
        chain,
        on_error,
    } = keys;
    let lines = [
        ("allow", allow.as_ref().map(allow_text)),
        (
            "host-access",
            host_access.as_ref().map(|access| word(&policy::HOST_ACCESS, access)),
        ),
        ("nat", nat.as_ref().map(nat_text)),
        (
            "bypass",
            bypass.as_ref().map(|networks| {
                networks
                    .as_ref()
                    .map_or("\"auto\"".to_owned(), |networks| list(networks))
            }),
        ),
        ("mss", mss.as_ref().map(mss_text)),
        ("log", log.as_ref().map(|log| word(&policy::LOG, log))),
        (
            "when-down",
            when_down.as_ref().map(|when| word(&policy::WHEN_DOWN, when)),
        ),
        (
            "chain",
            chain
                .as_ref()
                .map(|chain| chain.as_ref().map_or("\"\"".to_owned(), quoted)),
        ),
        (
            "on-error",
            on_error.as_ref().map(|on_error| word(&policy::ON_ERROR, on_error)),
        ),
    ];
    let set = lines.into_iter().filter_map(|(key, value)| Some((key, value?)));
    set.map(|(key, value)| format!("{key} = {value}\n")).collect()
}

fn allow_text(allow: &Allow) -> String {
    match allow {
        Allow::Services(services) => list(services),
        Allow::All | Allow::Replies | Allow::None => word(&policy::ALLOW, allow),
    }
}

fn nat_text(nat: &Nat) -> String {
    match nat {
        Nat::Address(address) => quoted(address),
        Nat::Exempt | Nat::Masquerade | Nat::Leave => word(&policy::NAT, nat),
    }
}

fn mss_text(mss: &Mss) -> String {
    match mss {
        Mss::Fixed(bytes) => bytes.to_string(),
        Mss::Leave | Mss::PathMtu => word(&policy::MSS, mss),
    }
}

fn connection_text(connection: &ConnectionSettings) -> String {
    let ConnectionSettings {
        filter: who,
        overrides: keys,
        between,
    } = connection;
    let ConnectionFilter {
        name,
        remote_id: peer_id,
        user,
        remote_network: peer_network,
    } = who;
    let lines = [
        ("name", name.as_ref().map(quoted)),
        ("peer-id", peer_id.as_ref().map(quoted)),
        ("user", user.as_ref().map(quoted)),
        ("peer-network", peer_network.as_ref().map(quoted)),
    ];
    let set = lines.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let who: String = set.map(|(key, value)| format!("{key} = {value}\n")).collect();
    let pairs: Vec<_> = between.iter().map(|(local, remote)| list(&[local, remote])).collect();
    format!("{who}between = [{}]\n{}", pairs.join(", "), keys_text(keys))
}
