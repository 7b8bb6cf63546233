//! What a call or a command would do, step by step, and how `--dry-run` shows it.

use std::fmt::{Display, Write as _};

use super::{ApplyError, Change, Engine};
use crate::netfilter::iptables::Tables;
use crate::netfilter::{Ruleset, restore_text};

/// What a call or a command would do. It is made from the plans that are carried out otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    /// The verb or the command.
    name: String,
    /// What has to be known before the rest.
    notes: Vec<String>,
    /// A line for each kind of change.
    summary: Vec<String>,
    /// Everything that would be run or written, in this order.
    steps: Vec<PreviewStep>,
}

/// Something that would be run or written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PreviewStep {
    /// What it would do: `change the nft-ipv4 filter table`.
    action: String,
    /// The exact text: the input of `iptables-restore --noflush`, commands, or a file's content.
    text: String,
}

impl Preview {
    /// Nothing yet, of this verb or command.
    pub(crate) fn new(name: impl Display) -> Self {
        Self {
            name: name.to_string(),
            notes: Vec::new(),
            summary: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Says something before the rest.
    pub(crate) fn note(&mut self, line: impl Display) {
        self.notes.push(line.to_string());
    }

    /// Adds a line to the summary.
    pub(crate) fn sum_up(&mut self, line: impl Display) {
        self.summary.push(line.to_string());
    }

    /// Adds a step.
    pub(crate) fn add(&mut self, action: impl Display, text: impl Into<String>) {
        let (action, text) = (action.to_string(), text.into());
        self.steps.push(PreviewStep { action, text });
    }

    /// Adds a step that runs commands, if there are any.
    pub(crate) fn add_commands(&mut self, action: impl Display, commands: &[impl Display]) {
        if !commands.is_empty() {
            self.add(
                action,
                commands
                    .iter()
                    .map(|command| format!("{command}\n"))
                    .collect::<String>(),
            );
        }
    }

    /// Adds a step that gives this text to `iptables-restore --noflush`.
    pub(crate) fn add_rules(&mut self, ruleset: Ruleset, text: String) {
        let mut tables = Vec::new();
        for table in text.lines().filter_map(|line| line.strip_prefix('*')) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        let action = match &tables[..] {
            [] => format!("change no table: the rules of {ruleset} are already installed, or still needed"),
            [table] => format!("change the {ruleset} {table} table"),
            several => format!("change the {ruleset} tables {}", several.join(" and ")),
        };
        self.add(action, text);
    }

    /// The summary, and how to see the rest.
    #[must_use]
    pub(crate) fn summary_text(&self) -> String {
        let mut text = self.head();
        if !self.steps.is_empty() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# to see the rules: pluto-updown {} --dry-run -v", self.name);
        }
        text
    }

    /// The summary and the text of every step.
    #[must_use]
    pub(crate) fn full_text(&self) -> String {
        let mut text = self.head();
        for PreviewStep { action, text: exact } in &self.steps {
            let (colon, end) = match (exact.is_empty(), exact.ends_with('\n')) {
                (true, _) => ("", ""),
                (false, true) => (":", ""),
                (false, false) => (":", "\n"),
            };
            let _ = write!(text, "# {}: would {action}{colon}\n{exact}{end}", self.name);
        }
        text
    }

    fn head(&self) -> String {
        let is_idle = self.summary.is_empty() && self.steps.is_empty();
        let idle = is_idle.then(|| format!("{}: nothing to do", self.name));
        let lines = self.notes.iter().chain(&self.summary).chain(&idle);
        lines.map(|line| format!("# {line}\n")).collect()
    }
}

impl<T: Tables> Engine<'_, T> {
    /// Adds changes to a preview: their rules, and the records that they write or delete.
    ///
    /// # Errors
    /// As for [`Engine::sections`].
    pub(crate) fn preview(&self, changes: &[Change], preview: &mut Preview) -> Result<(), ApplyError> {
        for change in changes {
            preview.add_rules(change.ruleset, restore_text(&self.sections(change)?));
            let stays = |id| change.added.iter().any(|other| other.id() == id);
            for record in change.removed.iter().filter(|record| !stays(record.id())) {
                preview.add(format_args!("delete the record {}", record.id()), "");
            }
            for record in &change.added {
                let text = serde_json::to_string_pretty(record).unwrap_or_else(|error| format!("# {error}"));
                preview.add(format_args!("write the record {}", record.id()), text + "\n");
            }
        }
        Ok(())
    }
}
