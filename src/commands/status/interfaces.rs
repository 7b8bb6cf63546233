//! Tunnels whose XFRM interface does not exist, or that have rules for another one.

use super::gather::{StatusReport, TunnelStatus};
use super::problem::{Problem, ProblemKind, Severity};
use crate::commands::fix::Fix;
use crate::firewall::MissingInterface;
use crate::netlink::{XfrmInterface, xfrm_interfaces};

/// Adds them. Asks the kernel only if a tunnel's daemon has passed an interface's number.
pub(super) fn add_missing_interfaces(report: &mut StatusReport) {
    let is_meant = |tunnel: &&TunnelStatus| tunnel.record.tunnel.if_id_out.is_some();
    if !report.tunnels.iter().any(|tunnel| is_meant(&tunnel)) {
        return;
    }
    // Without an answer nothing is known of any.
    let Ok(interfaces) = xfrm_interfaces() else { return };
    let tunnels = report.tunnels.iter().filter(is_meant);
    let problems: Vec<_> = tunnels.filter_map(|tunnel| problem(tunnel, &interfaces)).collect();
    report.problems.extend(problems);
}

fn problem(tunnel: &TunnelStatus, interfaces: &[XfrmInterface]) -> Option<Problem> {
    let (record, title) = (&tunnel.record, tunnel.title());
    let if_id = record.tunnel.if_id_out?;
    let found = interfaces.iter().find(|interface| interface.if_id == if_id);
    let effect = MissingInterface::of_tunnel(
        &record.tunnel,
        record.effective_policy(),
        record.tunnel_rules.interface.as_ref(),
    );
    let (severity, text, fix) = match (found, effect) {
        (Some(found), _) if record.tunnel_rules.interface.as_ref() == Some(&found.interface) => return None,
        (Some(found), _) => (
            Severity::Error,
            format!(
                "{title}: its rules are not for {}, which has its if_id {if_id}",
                found.interface
            ),
            Fix::RESTORE,
        ),
        // The rules name an interface that is gone: no packet enters the tunnel.
        (None, None) => return None,
        (None, Some(effect)) => {
            let (severity, words) = match effect {
                MissingInterface::Undecided => (Severity::Note, "your own rules decide about packets into it"),
                MissingInterface::Dropped => (Severity::Note, "packets into it are dropped by their addresses"),
                MissingInterface::Unrestricted => (Severity::Error, "packets into it are not restricted"),
            };
            let text = format!("{title}: no XFRM interface has if_id {if_id}: {words}");
            let fix = "create the interface, then: pluto-updown restore".to_owned();
            (severity, text, Fix::Advice(fix))
        }
    };
    let problem = Problem::new(severity, ProblemKind::NoInterface, text, fix);
    Some(problem.in_ruleset(tunnel.ruleset).about_tunnel(record.id.as_str()))
}
