//! The marks by which policy rules choose a routing table, as `ip rule` lists them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "these enums are the kernel's, and grow with it"
)]

use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::NetlinkSocket;
use super::error::{NetlinkAction, NetlinkError};
use crate::net::Mark;

/// A policy rule that tests a packet's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkedRule {
    /// Its priority: the number at the beginning of its line in `ip rule`.
    pub priority: u32,
    /// The mark that it tests.
    pub mark: Mark,
}

/// The policy rules of both families that test a mark.
///
/// # Errors
/// If the kernel cannot be asked. Needs no rights.
pub(crate) fn marked_rules() -> Result<Vec<MarkedRule>, NetlinkError> {
    let mut rules = Vec::new();
    let listed = NetlinkSocket::open().and_then(|mut connection| {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RuleMessage::default();
            request.header.family = family;
            connection.list_answers(RouteNetlinkMessage::GetRule(request), |answer| {
                rules.extend(marked_rule(&answer));
            })?;
        }
        Ok(())
    });
    match listed {
        Ok(()) => Ok(rules),
        Err(fault) => Err(NetlinkError {
            doing: NetlinkAction::ListRules,
            fault,
        }),
    }
}

fn marked_rule(answer: &RouteNetlinkMessage) -> Option<MarkedRule> {
    let RouteNetlinkMessage::NewRule(rule) = answer else {
        return None;
    };
    let (mut priority, mut value, mut mask) = (0, 0, 0);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::FwMark(bits) => value = *bits,
            RuleAttribute::FwMask(bits) => mask = *bits,
            _ => {}
        }
    }
    // Without a mark the kernel says no mask, or one of 0.
    (mask != 0).then_some(MarkedRule {
        priority,
        mark: Mark { value, mask },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(attributes: Vec<RuleAttribute>) -> RouteNetlinkMessage {
        let mut rule = RuleMessage::default();
        rule.attributes = attributes;
        RouteNetlinkMessage::NewRule(rule)
    }

    #[test]
    fn a_rule_is_marked_whose_mask_has_a_bit() {
        let answer = rule(vec![
            RuleAttribute::Priority(100),
            RuleAttribute::FwMark(5),
            RuleAttribute::FwMask(0xff),
        ]);
        let expected = MarkedRule {
            priority: 100,
            mark: "5/0xff".parse().unwrap(),
        };
        assert_eq!(marked_rule(&answer), Some(expected));
        assert_eq!(marked_rule(&rule(vec![RuleAttribute::Priority(32766)])), None);
    }

    #[test]
    fn the_kernel_answers() {
        assert!(marked_rules().is_ok());
    }
}
