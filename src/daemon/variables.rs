//! Every variable that a daemon is known to set for its hook, and whether it is read.

/// What is done with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is read, at least in the calls of the daemons that set it.
    Read,
    /// It has no influence on an event, for this reason.
    Ignored(&'static str),
}

use Treatment::{Ignored, Read};

const RESOLVER: &str = "strongSwan has plugins for the resolver, and its stock script leaves this alone";
const CLIENT_PARTS: &str = "repeats PLUTO_MY_CLIENT and PLUTO_PEER_CLIENT, and is wrong for ranges and NATed peers";
const HOST_FAMILY: &str =
    "the family is taken from the networks themselves; this one can be that of the IKE association";
const COUNTERS: &str = "a count of bytes, for accounting";
const MARKS: &str = "the reqid already distinguishes tunnels with different marks";
const INBOUND_INTERFACE: &str =
    "packets of an XFRM interface still have their policy's reqid, which distinguishes them";
const CONFIG_MODE: &str = "concerns which end assigns addresses; the networks already contain them";
const SAREF: &str = "concerns marks on packets of KLIPS, whose interface already distinguishes them";
const DEBUG: &str = "concerns the debugging output of the stock script";

/// The variables of libreswan 3.8 to 5.4, Openswan, FreeS/WAN and strongSwan 5 and 6, by name; `*`
/// stands for a number from 1.
pub const VARIABLES: &[(&str, Treatment)] = &[
    ("CAT", Read),
    ("CONNMARK", Ignored(MARKS)),
    ("CONNMARK_IN", Read),
    ("CONNMARK_OUT", Read),
    (
        "INTERFACE_IP",
        Ignored("concerns the address of the XFRM interface, not what passes through it"),
    ),
    ("IPSEC_INIT_SCRIPT_DEBUG", Ignored(DEBUG)),
    ("NFLOG", Read),
    ("PATH", Ignored("programs are run by absolute path")),
    (
        "PLUTO_ADDTIME",
        Ignored("the time of the security association, which a rekey changes without a call"),
    ),
    ("PLUTO_CFG_CLIENT", Read),
    ("PLUTO_CFG_SERVER", Ignored(CONFIG_MODE)),
    ("PLUTO_CISCO_DNS_INFO", Read),
    ("PLUTO_CISCO_DOMAIN_INFO", Read),
    ("PLUTO_CLIENT_FAMILY", Read),
    ("PLUTO_CONNECTION", Read),
    (
        "PLUTO_CONNECTION_TYPE",
        Ignored("tunnel and transport mode take the same rules; strongSwan does not say which it is"),
    ),
    ("PLUTO_CONN_ADDRFAMILY", Ignored(HOST_FAMILY)),
    ("PLUTO_CONN_CLIENTFAMILY", Ignored(HOST_FAMILY)),
    ("PLUTO_CONN_ENDFAMILY", Ignored(HOST_FAMILY)),
    ("PLUTO_CONN_KIND", Read),
    ("PLUTO_CONN_POLICY", Read),
    ("PLUTO_DNS4_*", Ignored(RESOLVER)),
    ("PLUTO_DNS6_*", Ignored(RESOLVER)),
    ("PLUTO_DNS_RESOLVER", Read),
    ("PLUTO_HOST_ACCESS", Read),
    ("PLUTO_IF_ID_IN", Ignored(INBOUND_INTERFACE)),
    ("PLUTO_IF_ID_OUT", Read),
    ("PLUTO_INBYTES", Ignored(COUNTERS)),
    // The outer interface under XFRM is `unknown` at strongSwan's `down` and changes with MOBIKE;
    // no rule uses it there.
    ("PLUTO_INTERFACE", Read),
    ("PLUTO_IN_BYTES", Ignored(COUNTERS)),
    ("PLUTO_IPCOMP", Read),
    ("PLUTO_IS_PEER_CISCO", Read),
    ("PLUTO_MARK_IN", Ignored(MARKS)),
    ("PLUTO_MARK_OUT", Ignored(MARKS)),
    ("PLUTO_ME", Read),
    ("PLUTO_METRIC", Read),
    ("PLUTO_MOBIKE_EVENT", Read),
    ("PLUTO_MTU", Read),
    ("PLUTO_MY_CLIENT", Read),
    ("PLUTO_MY_CLIENT_MASK", Ignored(CLIENT_PARTS)),
    ("PLUTO_MY_CLIENT_NET", Ignored(CLIENT_PARTS)),
    ("PLUTO_MY_ID", Read),
    ("PLUTO_MY_PORT", Read),
    ("PLUTO_MY_PROTOCOL", Read),
    ("PLUTO_MY_REF", Ignored(SAREF)),
    ("PLUTO_MY_SOURCEIP", Read),
    ("PLUTO_MY_SOURCEIP4_*", Read),
    ("PLUTO_MY_SOURCEIP6_*", Read),
    ("PLUTO_NEXT_HOP", Read),
    ("PLUTO_NM_CONFIGURED", Read),
    ("PLUTO_OUTBYTES", Ignored(COUNTERS)),
    ("PLUTO_OUT_BYTES", Ignored(COUNTERS)),
    ("PLUTO_PEER", Read),
    ("PLUTO_PEER_BANNER", Read),
    (
        "PLUTO_PEER_CA",
        Ignored("the daemon has already judged the peer's certificate"),
    ),
    ("PLUTO_PEER_CLIENT", Read),
    ("PLUTO_PEER_CLIENT_MASK", Ignored(CLIENT_PARTS)),
    ("PLUTO_PEER_CLIENT_NET", Ignored(CLIENT_PARTS)),
    ("PLUTO_PEER_DNS_INFO", Read),
    ("PLUTO_PEER_DOMAIN_INFO", Read),
    ("PLUTO_PEER_ID", Read),
    ("PLUTO_PEER_PORT", Read),
    ("PLUTO_PEER_PROTOCOL", Read),
    ("PLUTO_PEER_REF", Ignored(SAREF)),
    ("PLUTO_PEER_SOURCEIP", Ignored(CONFIG_MODE)),
    ("PLUTO_PEER_SOURCEIP4_*", Ignored(CONFIG_MODE)),
    ("PLUTO_PEER_SOURCEIP6_*", Ignored(CONFIG_MODE)),
    ("PLUTO_PROTO", Read),
    ("PLUTO_REQID", Read),
    ("PLUTO_SAREF_TRACKING", Ignored(SAREF)),
    ("PLUTO_SA_REQID", Read),
    ("PLUTO_SA_TYPE", Read),
    ("PLUTO_STACK", Read),
    (
        "PLUTO_UDP_ENC",
        Ignored("the peer's port moves with its NAT, and packets are known by their policy"),
    ),
    ("PLUTO_UNIQUEID", Read),
    ("PLUTO_USERNAME", Read),
    ("PLUTO_VERB", Read),
    ("PLUTO_VERSION", Read),
    ("PLUTO_VIRT_INTERFACE", Read),
    ("PLUTO_XAUTH_ID", Read),
    ("PLUTO_XAUTH_USERNAME", Read),
    ("PLUTO_XFRMI_FWMARK", Read),
    ("PLUTO_XFRMI_ROUTE", Read),
    ("SPI_IN", Read),
    ("SPI_OUT", Read),
    ("UPDOWN_DEBUG", Ignored(DEBUG)),
    ("VTI_IFACE", Read),
    ("VTI_IP", Read),
    ("VTI_ROUTING", Read),
    ("VTI_SHARED", Read),
    ("XAUTH_FAILED", Read),
];

/// What is done with a variable of this name; nothing if no daemon is known to set it.
pub(crate) fn treatment(name: &str) -> Option<Treatment> {
    VARIABLES
        .iter()
        .find(|(pattern, _)| matches(pattern, name))
        .map(|(_, treatment)| *treatment)
}

/// Whether a variable of this name is one that is read.
pub(super) fn is_read(name: &str) -> bool {
    treatment(name) == Some(Read)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.strip_prefix(stem).is_some_and(|number| {
            !number.is_empty() && !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit())
        }),
        None => pattern == name,
    }
}
