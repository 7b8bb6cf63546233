//! Checks iptables: its version and backend, its extensions, and rules that interfere with this
//! program's.

use super::{Finding, marks};
use crate::apply::{ApplyError, Comparison, Engine};
use crate::commands::command_context::{Calls, CommandContext, rulesets};
use crate::daemon::Tunnel;
use crate::firewall::{DriftKind, DriftRemedy, block_has_no_effect};
use crate::net::Family;
use crate::netfilter::iptables::{Programs, Tables};
use crate::netfilter::{Backend, Ruleset, SavedRule, SavedTable, Table};
use crate::state::{Record, Store};
use crate::words::counted_noun;

/// All that is found.
pub(super) fn findings(command: &CommandContext<'_>) -> Vec<Finding> {
    let store = command.peek();
    let mut programs = command.programs(&store);
    let mut findings = backends(&programs);
    for family in Family::ALL {
        if let Ok(backend) = programs.default_backend(family) {
            findings.extend(missing_features(&programs, Ruleset { backend, family }));
        }
    }
    let known = rulesets(&programs, &store).unwrap_or_default();
    let compare = || {
        let mut engine = Engine::new(&store, &mut programs, command.context());
        let compared = known.iter().map(|ruleset| (*ruleset, engine.compare(*ruleset)));
        Ok(compared.collect::<Vec<_>>())
    };
    let differs = |compared: &Result<Comparison, _>| compared.as_ref().is_ok_and(Comparison::differs);
    let is_enough = |compared: &mut Vec<(Ruleset, Result<Comparison, ApplyError>)>, calls| {
        calls == Calls::Quiet || !compared.iter().any(|(_, compared)| differs(compared))
    };
    let mut ruleset_views = Vec::new();
    for (ruleset, compared) in command.look_undisturbed(compare, is_enough).unwrap_or_default() {
        let is_recorded = store.has_entries(ruleset).unwrap_or(true);
        match compared {
            Ok(comparison) => {
                findings.extend(loaded_findings(ruleset, &comparison, is_recorded));
                findings.extend(unguarded(&comparison));
                ruleset_views.push((ruleset, comparison));
            }
            Err(error) => findings.push(unreadable(&error)),
        }
    }
    findings.extend(mixed_backends(&programs, &store, &ruleset_views));
    let bit = command.context().settings.gateway.mark;
    findings.extend(marks::findings(bit, &ruleset_views));
    findings.extend(marks::interfaces(bit, &ruleset_views));
    findings
}

fn unreadable(error: &dyn std::fmt::Display) -> Finding {
    Finding::wrong_finding(
        error,
        "these rules can neither be compared nor changed",
        "run it as root; if it is, repair what the message names",
    )
}

/// Which iptables there is, of which version.
fn backends(programs: &Programs<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for family in Family::ALL {
        match programs.default_backend(family) {
            Ok(backend) => {
                found.push(backend);
                findings.push(version(programs, Ruleset { backend, family }));
            }
            Err(error) => findings.push(Finding::wrong_finding(
                error,
                "no tunnel of this family can be opened",
                "install the package iptables, or name its directory with --programs",
            )),
        }
    }
    if let [four, six] = found[..]
        && four != six
    {
        findings.push(Finding::wrong_finding(
            format_args!("iptables is {four}, ip6tables is {six}"),
            "rules of one family are in a backend in which other programs do not look",
            "set both to one backend: update-alternatives --config iptables, then --config ip6tables",
        ));
    }
    findings
}

fn version(programs: &Programs<'_>, ruleset: Ruleset) -> Finding {
    /// The first whose iptables-restore waits for the lock.
    const FIRST: [u32; 3] = [1, 6, 2];
    match programs.version(ruleset) {
        Err(error) => unreadable(&error),
        Ok(text) => match numbers(&text) {
            Some(numbers) if numbers < FIRST => Finding::wrong_finding(
                format_args!("{}: {text}", ruleset.family),
                "its iptables-restore has no -w, which waits while another program changes the firewall",
                "install iptables 1.6.2 or newer",
            ),
            Some(_) => Finding::ok_finding(format_args!("{}: {text}, {}", ruleset.family, ruleset.backend)),
            None => Finding::note_finding(
                format_args!("{}: {text}", ruleset.family),
                "its version cannot be read, and may be too old",
                "make sure that it is 1.6.2 or newer",
            ),
        },
    }
}

/// The numbers in `iptables-restore v1.8.9 (nf_tables)`.
fn numbers(text: &str) -> Option<[u32; 3]> {
    let word = text.split(' ').find_map(|word| word.strip_prefix('v'))?;
    let mut parts = word.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some([next()?, next()?, next().unwrap_or_default()])
}

/// What our rules need: a table, a rule that needs it, and what for.
const NEEDS: [(Table, &str, &str); 22] = [
    (
        Table::Filter,
        "-m policy --dir in --pol ipsec --reqid 1 --proto esp",
        "every tunnel",
    ),
    (Table::Filter, "-m comment --comment probe", "every tunnel"),
    (
        Table::Filter,
        "-m mark --mark 0x1/0x1",
        "packets from one tunnel into another",
    ),
    (
        Table::Filter,
        "-j MARK --set-xmark 0x0/0x1",
        "packets from one tunnel into another",
    ),
    (Table::Filter, "-p tcp -m tcp --dport 22", "tunnels restricted to ports"),
    (Table::Filter, "-p udp -m udp --dport 53", "tunnels restricted to ports"),
    (
        Table::Filter,
        "-p sctp -m multiport --dports 7",
        "tunnels restricted to ports of SCTP, DCCP or UDP-Lite",
    ),
    (
        Table::Filter,
        "-m iprange --src-range FIRST-LAST",
        "tunnels between ranges of addresses",
    ),
    (Table::Filter, "-j NFLOG --nflog-group 1", "libreswan's nflog="),
    (
        Table::Filter,
        "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY",
        "allow = \"replies\" and other restrictions",
    ),
    (
        Table::Filter,
        "-m conntrack --ctstate RELATED,ESTABLISHED --ctstatus EXPECTED",
        "allow = \"replies\" and other restrictions",
    ),
    (
        Table::Filter,
        "-p tcp -m conntrack --ctorigdst FIRST --ctorigdstport 22 --ctdir ORIGINAL",
        "allow = [...]: the address and port that a peer asked for, before any DNAT rule",
    ),
    (
        Table::Filter,
        "-m conntrack --ctstate RELATED,ESTABLISHED --ctrepldst FIRST --ctdir REPLY",
        "nat = \"masquerade\" and an address beside allow = ...",
    ),
    (Table::Filter, "ICMP", "tunnels and services of ICMP"),
    (Table::Filter, "AH", "peers that use AH"),
    (Table::Filter, "-m limit --limit 10/min", "log = ..."),
    (Table::Filter, "-j LOG --log-prefix probe", "log = ..."),
    (Table::Nat, "-m addrtype ! --src-type LOCAL", "nat = \"masquerade\""),
    (
        Table::Mangle,
        "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360",
        "mss = ...",
    ),
    (
        Table::Mangle,
        "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        "mss = \"pmtu\"",
    ),
    (Table::Nat, "-j SNAT --to-source FIRST", "libreswan's leftcat=yes"),
    (Table::Nat, "-j DNAT --to-destination FIRST", "libreswan's leftcat=yes"),
];

/// Whether iptables takes all of that; nothing is changed.
///
/// With iptables-legacy to look at another table than filter would be to load it, and connection
/// tracking with nat.
fn missing_features(programs: &Programs<'_>, ruleset: Ruleset) -> Vec<Finding> {
    let lacks =
        |(table, rule, _): &&(Table, &str, &str)| programs.rehearse(ruleset, &probe(ruleset, *table, rule)).err();
    let looked_at = |(table, ..): &&(Table, &str, &str)| ruleset.backend == Backend::Nft || *table == Table::Filter;
    let mut findings: Vec<_> = NEEDS
        .iter()
        .filter(looked_at)
        .filter_map(|need| Some((need, lacks(&need)?)))
        .map(|((_, rule, purpose), error)| {
            Finding::wrong_finding(
                format_args!("{ruleset}: {}: {error}", with_family_values(ruleset.family, rule)),
                &format!("it is needed for {purpose}"),
                "install the package with iptables' extensions, and load the kernel module (modprobe xt_NAME); on RHEL 10 and its derivatives: dnf install kernel-modules-extra",
            )
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok_finding(format_args!(
            "{ruleset}: all needed matches and targets available"
        )));
    }
    findings
}

fn probe(ruleset: Ruleset, table: Table, rule: &str) -> String {
    let rule = with_family_values(ruleset.family, rule);
    format!("*{table}\n:PLUTO-PROBE - [0:0]\n-A PLUTO-PROBE {rule}\nCOMMIT\n")
}

/// What is needed, as this family's iptables has it.
fn with_family_values(family: Family, rule: &str) -> String {
    let words = match family {
        Family::Ipv4 => [
            ("FIRST", "192.0.2.1"),
            ("LAST", "192.0.2.9"),
            ("ICMP", "-p icmp -m icmp --icmp-type 8"),
            ("AH", "-p 51"),
        ],
        Family::Ipv6 => [
            ("FIRST", "2001:db8::1"),
            ("LAST", "2001:db8::9"),
            ("ICMP", "-p ipv6-icmp -m icmp6 --icmpv6-type 128"),
            ("AH", "-m ah"),
        ],
    };
    words
        .iter()
        .fold(rule.to_owned(), |rule, (word, text)| rule.replace(word, text))
}

/// Findings about the installed rules, and the position of the jumps.
fn loaded_findings(ruleset: Ruleset, comparison: &Comparison, is_recorded: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut other = 0;
    for drift in &comparison.drifts {
        match drift.kind.remedy() {
            DriftRemedy::Restore if matches!(drift.kind, DriftKind::Misplaced(..)) => findings.push(Finding::wrong_finding(
                format_args!("{ruleset} {drift}"),
                "packets hit that rule before (or after) the tunnel rules",
                "pluto-updown restore moves the jump back; find out which program inserts rules there",
            )),
            DriftRemedy::UserJump(..) => findings.push(Finding::wrong_finding(
                format_args!("{ruleset} {drift}"),
                "no packet there reaches the rules of any tunnel",
                "add the jump to your own rules, or delete place = \"own\" from the settings",
            )),
            DriftRemedy::UserRule(..) => findings.push(Finding::note_finding(
                format_args!("{ruleset} {drift}"),
                "no packet is decided there, but the chain cannot be deleted",
                "delete that rule of yours, then: pluto-updown restore",
            )),
            DriftRemedy::Rewrite => findings.push(Finding::note_finding(
                format_args!("{ruleset}: older layout"),
                "an older version of pluto-updown installed the rules; they work, and the next hook call rewrites them, which takes longer",
                "pluto-updown start",
            )),
            DriftRemedy::Restore => other += 1,
        }
    }
    if other > 0 {
        findings.push(Finding::wrong_finding(
            format_args!("{ruleset}: {} from the record", counted_noun(other, "difference")),
            "packets of tunnels may be dropped, or other packets accepted",
            "pluto-updown restore (pluto-updown status lists the differences)",
        ));
    } else if is_recorded && findings.is_empty() {
        findings.push(Finding::ok_finding(format_args!("{ruleset}: all rules loaded")));
    }
    if let (true, Some(nat)) = (is_recorded, comparison.saved.table(Table::Nat)) {
        findings.extend(translating(ruleset, nat));
    }
    findings
}

/// Findings about tunnels with only a virtual address, for which `when-down = "block"` has no
/// effect.
fn unguarded(comparison: &Comparison) -> Vec<Finding> {
    let clear_text_blocks = comparison.entries.iter().filter_map(Record::as_clear_text_block);
    let tunnels = clear_text_blocks.flat_map(|block| {
        let is_own = |tunnel: &&Tunnel| (block.local, block.remote) == (tunnel.local_client, tunnel.remote_client);
        block.askers().find(is_own)
    });
    let finding = |tunnel: &Tunnel| {
        Finding::wrong_finding(
            format_args!(
                "{}: when-down = \"block\" blocks only packets from {}",
                tunnel.connection, tunnel.local_client
            ),
            "the gateway has that address only while the tunnel is up; without it packets leave unencrypted from another",
            "name the interface in only-ipsec, or the networks in between",
        )
    };
    tunnels
        .filter(|tunnel| block_has_no_effect(tunnel))
        .map(finding)
        .collect()
}

/// A rule that source-NATs packets before this program's rules see them.
fn translating(ruleset: Ruleset, nat: &SavedTable) -> Option<Finding> {
    let first = nat
        .rules("POSTROUTING")
        .iter()
        .take_while(|rule| rule.text != "-j PLUTO-POSTROUTING");
    let catches = |rule: &&SavedRule| {
        let translates = rule
            .jump_target()
            .is_some_and(|target| ["MASQUERADE", "SNAT", "NETMAP"].contains(&&*target));
        translates && !rule.text.contains("--pol none")
    };
    let rule = first.into_iter().find(catches)?;
    Some(Finding::wrong_finding(
        format_args!("{ruleset} nat: POSTROUTING: {}", rule.text),
        "after SNAT the source no longer matches the IPsec policy: traffic leaves unencrypted or is lost",
        "add -m policy --dir out --pol none to this rule",
    ))
}

/// Rules in the one iptables while `iptables` is the other.
fn mixed_backends(programs: &Programs<'_>, store: &Store, ruleset_views: &[(Ruleset, Comparison)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (ruleset, comparison) in ruleset_views {
        let Ok(default) = programs.default_backend(ruleset.family) else {
            continue;
        };
        if *ruleset
            == (Ruleset {
                backend: default,
                ..*ruleset
            })
        {
            continue;
        }
        let has_own = comparison.saved.has_own_chains() || store.has_entries(*ruleset).unwrap_or_default();
        let has_foreign = comparison.saved.tables().any(|(_, table)| has_rules(table));
        if has_own {
            findings.push(Finding::note_finding(
                format_args!("{ruleset} has chains of pluto-updown, but iptables is now {default}"),
                "rules stay in the backend in which their tunnel came up; iptables -S does not show them",
                "nothing: a `down` deletes the rules of its tunnel. pluto-updown restore deletes chains that no tunnel uses",
            ));
        }
        if has_foreign {
            findings.push(Finding::note_finding(
                format_args!("{ruleset} has rules of other programs, but iptables is {default}"),
                "a packet has to pass both, and iptables -S does not show which rule of the other drops it",
                "move these rules to the backend of iptables, and flush the other",
            ));
        }
    }
    findings
}

/// Whether a table has rules of other programs.
fn has_rules(table: &SavedTable) -> bool {
    table.chains().any(|(name, rules)| {
        let has_own = name.starts_with("PLUTO-");
        !has_own
            && rules
                .iter()
                .any(|rule| !rule.jump_target().is_some_and(|target| target.starts_with("PLUTO-")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::MarkBit;
    use crate::netfilter::IptablesSave;
    use crate::netfilter::{Match, Target};

    /// What a rule with this match asks of iptables beyond what every iptables has. A match that is
    /// new belongs into `NEEDS`.
    fn asked_by_match(matching: &Match) -> &'static [&'static str] {
        match matching {
            Match::Source(_) | Match::Destination(_) | Match::NotSource(_) | Match::NotDestination(_) => {
                &["-m iprange"]
            }
            Match::In(_) | Match::Out(_) => &[],
            Match::Traffic(..) => &["-m tcp --dport", "-m udp --dport", "-m multiport", "ICMP", "AH"],
            Match::Policy(_) | Match::PolicyNone(_) => &["-m policy"],
            Match::CtState(_) => &["-m conntrack --ctstate", "--ctdir REPLY", "--ctstatus EXPECTED"],
            Match::CtOrig(..) => &["--ctorigdst", "--ctorigdstport"],
            Match::CtReplDst(_) => &["--ctrepldst", "--ctdir REPLY"],
            Match::SrcNotLocal => &["-m addrtype"],
            Match::Mark(_) | Match::NotMark(_) => &["-m mark --mark"],
            Match::Syn => &["--tcp-flags"],
            Match::Limit => &["-m limit"],
            Match::Comment(_) => &["-m comment"],
        }
    }

    fn asked_by_verdict(verdict: &Target) -> &'static [&'static str] {
        match verdict {
            Target::Accept | Target::Drop | Target::Return => &[],
            Target::Jump(_) | Target::JumpUser(_) | Target::Goto(_) => &[],
            Target::Nflog(_) => &["-j NFLOG"],
            Target::Log(_) => &["-j LOG"],
            Target::SetMark(_) | Target::ClearMark(_) => &["-j MARK --set-xmark"],
            Target::SetMss(_) => &["--set-mss"],
            Target::ClampMssToPmtu => &["--clamp-mss-to-pmtu"],
            Target::Snat(_) => &["-j SNAT"],
            Target::Dnat(_) => &["-j DNAT"],
        }
    }

    #[test]
    fn every_extension_that_a_rule_may_name_is_asked_for() {
        let address = "192.0.2.1".parse().unwrap();
        // One of each that names an extension; the functions above are what must be complete.
        let matches = [
            Match::Traffic(crate::netfilter::Direction::In, Family::Ipv4, crate::net::Traffic::Any),
            Match::Source("192.0.2.0/24".parse().unwrap()),
            Match::PolicyNone(crate::netfilter::Direction::In),
            Match::CtState(crate::netfilter::CtState::Reply),
            Match::CtReplDst(address),
            Match::CtOrig(Family::Ipv4, crate::net::Traffic::Any, None),
            Match::Mark(MarkBit::default()),
            Match::SrcNotLocal,
            Match::Syn,
            Match::Limit,
        ];
        let verdicts = [
            Target::SetMark(MarkBit::default()),
            Target::Snat(address),
            Target::Dnat(address),
            Target::ClampMssToPmtu,
            Target::SetMss(std::num::NonZeroU16::MIN),
        ];
        const ALWAYS: [&str; 4] = ["-m comment", "-m conntrack --ctstate", "-j NFLOG", "-j LOG"];
        let asked = matches.iter().flat_map(asked_by_match);
        let asked = asked.chain(verdicts.iter().flat_map(asked_by_verdict)).chain(&ALWAYS);
        for words in asked {
            assert!(NEEDS.iter().any(|(_, rule, _)| rule.contains(words)), "{words}");
        }
    }

    #[test]
    fn versions_are_read_from_what_iptables_says() {
        assert_eq!(numbers("iptables-restore v1.8.9 (nf_tables)"), Some([1, 8, 9]));
        assert_eq!(numbers("iptables-restore v1.4"), Some([1, 4, 0]));
        assert_eq!(numbers("BusyBox"), None);
        assert!(numbers("x v1.4.21").unwrap() < [1, 6, 2]);
    }

    #[test]
    fn a_translation_before_our_jump_is_found_unless_it_leaves_ipsec_alone() {
        let ruleset = Ruleset {
            backend: Backend::Nft,
            family: Family::Ipv4,
        };
        let found = |rules: &str| {
            let saved = IptablesSave::parse(&format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n"));
            translating(ruleset, saved.table(Table::Nat).unwrap()).is_some()
        };
        assert!(found("-A POSTROUTING -o eth0 -j MASQUERADE"));
        assert!(found(
            "-A POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.1\n-A POSTROUTING -j PLUTO-POSTROUTING"
        ));
        assert!(!found(
            "-A POSTROUTING -j PLUTO-POSTROUTING\n-A POSTROUTING -o eth0 -j MASQUERADE"
        ));
        assert!(!found(
            "-A POSTROUTING -o eth0 -m policy --dir out --pol none -j MASQUERADE"
        ));
        assert!(!found(
            "-A POSTROUTING -o eth0 -m comment --comment MASQUERADE -j ACCEPT"
        ));
    }
}
