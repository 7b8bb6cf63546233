//! Where we differ from the scripts on purpose.

mod table;

use std::fmt;

use super::calls::Version;
use super::twins::{Finding, Side};

pub use table::TABLE;

/// One difference, by what each side alone has after a call.
#[derive(Debug)]
pub struct Difference {
    pub name: &'static str,
    pub versions: &'static [Version],
    /// Whether it can begin with a call.
    pub concerns: fn(&Finding) -> bool,
    /// What only the script leaves, and only we: facts, with `{NAME}` for a variable of the call and ` *` for any more words.
    pub stock: &'static [&'static str],
    pub program: &'static [&'static str],
    /// What the script does, what we do instead, and why.
    pub why: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

impl Difference {
    fn explains(&self, version: Version, finding: &Finding) -> bool {
        let patterns = match finding.side {
            Side::Left => self.stock,
            Side::Right => self.program,
        };
        self.versions.contains(&version)
            && patterns.iter().any(|pattern| is_like(pattern, finding))
            && (self.concerns)(finding)
    }
}

/// The findings that no row of the table explains, and the rows of this version that no finding shows.
pub fn judge<'a>(
    table: &'a [Difference],
    version: Version,
    findings: &'a [Finding],
) -> (Vec<&'a Finding>, Vec<&'a Difference>) {
    let explained = |finding: &&Finding| table.iter().any(|row| row.explains(version, finding));
    let unexplained = findings.iter().filter(|finding| !explained(finding)).collect();
    let shown = |row: &&Difference| findings.iter().any(|finding| row.explains(version, finding));
    let rows = table.iter().filter(|row| row.versions.contains(&version));
    (unexplained, rows.filter(|row| !shown(row)).collect())
}

/// Whether a fact is what a pattern says with the variables of its call.
fn is_like(pattern: &str, finding: &Finding) -> bool {
    let mut wanted = pattern.to_owned();
    for (name, value) in &finding.call.variables {
        wanted = wanted.replace(&format!("{{{}}}", name.to_string_lossy()), &value.to_string_lossy());
    }
    match wanted.strip_suffix(" *") {
        Some(beginning) => finding.fact == beginning || finding.fact.starts_with(&format!("{beginning} ")),
        None => finding.fact == wanted,
    }
}

#[test]
fn a_difference_needs_a_row_and_a_row_a_difference() {
    let row = Difference {
        name: "made",
        versions: &[Version::V5_2],
        concerns: |finding| finding.step == 3,
        stock: &["route v4 unicast {PLUTO_PEER_CLIENT} *"],
        program: &[],
        why: "",
    };
    let case = super::cases::plainest(Version::V5_2);
    let super::cases::Step::Call(call) = case.steps[0].clone() else {
        panic!("a call")
    };
    let finding = |step, side, fact: &str| Finding {
        case: String::new(),
        world: case.world,
        step,
        call: call.clone(),
        side,
        fact: fact.to_owned(),
        said: Default::default(),
    };
    let route = "route v4 unicast 10.2.0.0/24 dev w0";
    let table = [row];
    let count = |version, finding| {
        let findings = [finding];
        let (unexplained, unseen) = judge(&table, version, &findings);
        (unexplained.len(), unseen.len())
    };
    assert_eq!(count(Version::V5_2, finding(3, Side::Left, route)), (0, 0));
    assert_eq!(count(Version::V5_2, finding(4, Side::Left, route)), (1, 1));
    assert_eq!(count(Version::V5_2, finding(3, Side::Right, route)), (1, 1));
    assert_eq!(
        count(
            Version::V5_2,
            finding(3, Side::Left, "route v4 unicast 10.2.0.0/16 dev w0")
        ),
        (1, 1)
    );
    assert_eq!(count(Version::V4_10, finding(3, Side::Left, route)), (1, 0));
}

#[test]
fn every_row_is_in_the_documentation() {
    let document = include_str!("../../../docs/differences.md");
    for row in TABLE {
        let only = match row.versions {
            [Version::V4_10] => " (4.10)",
            [Version::V5_2] => " (5.2)",
            _ => "",
        };
        let line = format!("\n- **{}**{only}: {}\n", row.name, row.why);
        assert!(document.contains(&line), "not in docs/differences.md:{line}");
    }
    let rows = document.lines().filter(|line| line.starts_with("- **")).count();
    assert_eq!(rows, TABLE.len(), "a row of docs/differences.md is not in the table");
}
