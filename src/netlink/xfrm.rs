//! Which IPsec policies the kernel holds, by netlink (`NETLINK_XFRM`), as `ip xfrm policy` lists
//! them.
//!
//! A policy selects the packets for IPsec; it exists as long as its tunnel is up, even if its
//! daemon has died. The kernel's structures (`linux/xfrm.h`) have a fixed layout, which is read
//! here field by field. The crate netlink-packet-xfrm (0.3.1) needs netlink-packet-core 0.7 beside
//! our 0.9, and six fields are read here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

use super::connection::NetlinkSocket;
use super::error::{NetlinkAction, NetlinkError, NetlinkFault};
use crate::net::Mark;

/// `XFRM_MSG_GETPOLICY`
const GET_POLICY: u16 = 0x15;

/// `XFRM_MSG_GETSA`
const GET_SA: u16 = 0x12;

/// `XFRM_MSG_NEWSA`, also the type of each SA in a list
const NEW_SA: u16 = 0x10;

/// The length of `struct xfrm_usersa_info`, in bytes
const SA: usize = 224;

/// `XFRM_MSG_NEWPOLICY`, also the type of each policy in a list
const NEW_POLICY: u16 = 0x13;

/// The length of `struct xfrm_userpolicy_id`, which a request consists of, in bytes
const REQUEST: usize = 64;

/// The length of `struct xfrm_userpolicy_info`, in bytes; attributes follow it
const POLICY: usize = 168;

/// The length of `struct xfrm_user_tmpl`, in bytes
const TEMPLATE: usize = 64;

/// `XFRMA_TMPL`
const TEMPLATES: u16 = 5;

/// `XFRMA_MARK`
const MARK: u16 = 21;

/// `XFRMA_IF_ID`
const IF_ID: u16 = 31;

/// How often a list is asked for that changes while it is made.
const TRIES: usize = 5;

/// One policy of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XfrmPolicy {
    /// Which packets it is for.
    pub direction: XfrmDirection,
    /// Where they come from. IPv4 or IPv6, the same as `destination`.
    pub source: IpNet,
    /// Where they go.
    pub destination: IpNet,
    /// The IP protocol; 0 for any.
    pub protocol: u8,
    /// The source port and its mask; 0 and 0 for any. With ICMP it is the type.
    pub source_port: (u16, u16),
    /// The destination port and its mask; 0 and 0 for any. With ICMP it is the code.
    pub destination_port: (u16, u16),
    /// The reqids of its transformations, in order; 0 for any reqid. Empty if it lets packets pass
    /// unencrypted or drops them.
    pub reqids: Vec<u32>,
    /// The mark that a packet must bear, where it must.
    pub mark: Option<Mark>,
    /// The number of the XFRM interfaces that it is for; 0 for all others.
    pub if_id: u32,
}

/// One SA of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XfrmSa {
    /// Where its packets come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The reqid by which policies ask for it.
    pub reqid: u32,
}

/// Which packets a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XfrmDirection {
    /// Those that have come in, for the gateway itself.
    In,
    /// Those that leave.
    Out,
    /// Those that have come in, and go on.
    Forward,
}

/// The policies of this network namespace. Those of single sockets, by which IKE daemons except
/// themselves, are not among them.
///
/// # Errors
/// If the kernel cannot be asked; without `CAP_NET_ADMIN` it refuses. A list that changed while it
/// was made is asked for again, and is an error in the end: a policy could be missing in it.
pub fn policies() -> Result<Vec<XfrmPolicy>, NetlinkError> {
    listed(NetlinkAction::ListPolicies, || {
        let mut policies = Vec::new();
        list(XfrmMessage::GetPolicies, |message| match message {
            XfrmMessage::Policy(policy) => policies.extend(policy),
            XfrmMessage::GetPolicies | XfrmMessage::GetSas | XfrmMessage::Sa(_) | XfrmMessage::Other => {}
        })?;
        Ok(policies)
    })
}

/// The SAs of this network namespace.
pub(crate) fn sas() -> Result<Vec<XfrmSa>, NetlinkError> {
    listed(NetlinkAction::ListSas, || {
        let mut sas = Vec::new();
        list(XfrmMessage::GetSas, |message| match message {
            XfrmMessage::Sa(sa) => sas.push(sa),
            XfrmMessage::GetPolicies | XfrmMessage::GetSas | XfrmMessage::Policy(_) | XfrmMessage::Other => {}
        })?;
        Ok(sas)
    })
}

fn listed<T>(doing: NetlinkAction, list: impl Fn() -> Result<Vec<T>, NetlinkFault>) -> Result<Vec<T>, NetlinkError> {
    let mut answer = Err(NetlinkFault::Interrupted);
    for _ in 0..TRIES {
        answer = list();
        match &answer {
            Err(NetlinkFault::Interrupted) => {}
            Ok(_)
            | Err(
                NetlinkFault::Refused(_)
                | NetlinkFault::NoDevice(_)
                | NetlinkFault::NoVti(_)
                | NetlinkFault::Silent
                | NetlinkFault::Malformed(_),
            ) => {
                break;
            }
        }
    }
    answer.map_err(|fault| NetlinkError { doing, fault })
}

fn list(request: XfrmMessage, each: impl FnMut(XfrmMessage)) -> Result<(), NetlinkFault> {
    NetlinkSocket::open_xfrm()?.list_whole(request, each)
}

/// What goes to the kernel and what comes back.
#[derive(Debug)]
enum XfrmMessage {
    /// All policies are asked for.
    GetPolicies,
    /// All SAs are.
    GetSas,
    /// One of them; nothing, where it is a socket's.
    Policy(Option<XfrmPolicy>),
    /// One of those.
    Sa(XfrmSa),
    /// Something else.
    Other,
}

impl NetlinkSerializable for XfrmMessage {
    fn message_type(&self) -> u16 {
        match self {
            Self::GetSas => GET_SA,
            Self::GetPolicies | Self::Policy(_) | Self::Sa(_) | Self::Other => GET_POLICY,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            // What follows is read as attributes that narrow the list (net/xfrm/xfrm_user.c,
            // xfrm_dump_sa).
            Self::GetSas => 0,
            Self::GetPolicies | Self::Policy(_) | Self::Sa(_) | Self::Other => REQUEST,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for XfrmMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            NEW_POLICY => policy(payload)
                .map(Self::Policy)
                .ok_or_else(|| DecodeError::from("a truncated IPsec policy")),
            NEW_SA => sa(payload)
                .map(Self::Sa)
                .ok_or_else(|| DecodeError::from("a truncated SA")),
            _ => Ok(Self::Other),
        }
    }
}

/// Reads a `struct xfrm_userpolicy_info` and what follows it.
fn policy(bytes: &[u8]) -> Option<Option<XfrmPolicy>> {
    let (fixed, attributes) = bytes.split_at_checked(POLICY)?;
    let direction = match fixed[160] {
        0 => XfrmDirection::In,
        1 => XfrmDirection::Out,
        2 => XfrmDirection::Forward,
        _ => return Some(None),
    };
    let family = native_u16(fixed, 40)?;
    let mut policy = XfrmPolicy {
        direction,
        destination: network(family, fixed.get(..16)?, fixed[42])?,
        source: network(family, fixed.get(16..32)?, fixed[43])?,
        protocol: fixed[44],
        destination_port: (port(fixed, 32)?, port(fixed, 34)?),
        source_port: (port(fixed, 36)?, port(fixed, 38)?),
        reqids: Vec::new(),
        mark: None,
        if_id: 0,
    };
    read_attributes(&mut policy, attributes)?;
    Some(Some(policy))
}

fn read_attributes(policy: &mut XfrmPolicy, mut bytes: &[u8]) -> Option<()> {
    while bytes.len() >= 4 {
        let length = usize::from(native_u16(bytes, 0)?);
        let kind = native_u16(bytes, 2)?;
        let value = bytes.get(4..length)?;
        match kind {
            TEMPLATES => {
                let reqids = value.chunks_exact(TEMPLATE).map(|template| native_u32(template, 44));
                policy.reqids = reqids.collect::<Option<_>>()?;
            }
            MARK => {
                let mark = Mark {
                    value: native_u32(value, 0)?,
                    mask: native_u32(value, 4)?,
                };
                policy.mark = (mark.mask != 0).then_some(mark);
            }
            IF_ID => policy.if_id = native_u32(value, 0)?,
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(())
}

/// Reads a `struct xfrm_usersa_info`.
fn sa(bytes: &[u8]) -> Option<XfrmSa> {
    let fixed = bytes.get(..SA)?;
    let family = native_u16(fixed, 212)?;
    Some(XfrmSa {
        destination: address(family, fixed.get(56..72)?)?,
        source: address(family, fixed.get(80..96)?)?,
        reqid: native_u32(fixed, 208)?,
    })
}

/// An address in 16 bytes, of which IPv4 needs the first four. A selector that names no family is
/// one for both, which only means anything with no address in it; it is taken for IPv4.
fn network(family: u16, bytes: &[u8], length: u8) -> Option<IpNet> {
    let network = IpNet::new(address(family, bytes)?, length).ok()?;
    Some(network.trunc())
}

fn address(family: u16, bytes: &[u8]) -> Option<IpAddr> {
    const INET6: u16 = 10;
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let [a, b, c, d, ..] = bytes;
    Some(match family {
        INET6 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
    })
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_refused_and_never_read_beyond() {
        let mut whole = vec![0; POLICY];
        whole[160] = 1;
        assert!(matches!(
            policy(&whole),
            Some(Some(XfrmPolicy {
                direction: XfrmDirection::Out,
                ..
            }))
        ));
        for length in 0..POLICY {
            assert_eq!(policy(&whole[..length]), None);
        }
        for (length, kind, value) in [
            (8, MARK, 0),
            (3, TEMPLATES, 0),
            (12, IF_ID, 1),
            (6, IF_ID, 2),
            (11, MARK, 7),
        ] {
            let attribute = attribute(length, kind, &vec![1; value]);
            assert_eq!(policy(&[&*whole, &attribute].concat()), None, "{attribute:?}");
        }
    }

    fn attribute(length: u16, kind: u16, value: &[u8]) -> Vec<u8> {
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn a_prefix_that_no_family_has_is_refused() {
        let mut bytes = vec![0; POLICY];
        bytes[42] = 33;
        assert_eq!(policy(&bytes), None);
    }

    #[test]
    fn an_sa_has_its_ends_and_its_reqid_and_is_never_read_beyond() {
        let mut whole = vec![0; SA];
        whole[56..60].copy_from_slice(&[192, 0, 2, 2]);
        whole[80..84].copy_from_slice(&[192, 0, 2, 1]);
        whole[208..212].copy_from_slice(&7_u32.to_ne_bytes());
        whole[212..214].copy_from_slice(&2_u16.to_ne_bytes());
        let expected = XfrmSa {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            reqid: 7,
        };
        assert_eq!(sa(&whole), Some(expected));
        for length in 0..SA {
            assert_eq!(sa(&whole[..length]), None);
        }
    }

    #[test]
    fn the_policy_of_a_socket_is_left_out() {
        let mut bytes = vec![0; POLICY];
        bytes[160] = 3;
        assert_eq!(policy(&bytes), Some(None));
    }
}
