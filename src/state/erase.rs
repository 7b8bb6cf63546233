//! Erases the records of a ruleset.

use super::error::RecordError;
use super::file;
use super::store::Store;
use crate::netfilter::Ruleset;

impl Store {
    /// Deletes every record of a ruleset, readable or not. The caller has removed all its rules
    /// from the kernel before.
    pub(crate) fn erase(&self, ruleset: Ruleset) -> Result<(), RecordError> {
        self.invalidate();
        file::remove_tree(&self.ruleset_folder(ruleset))?;
        match self.journal() {
            Ok(Some(journal)) if journal.ruleset != ruleset => Ok(()),
            // One that cannot be read says nothing of use either.
            Ok(_) | Err(RecordError::Malformed { .. } | RecordError::TooLarge { .. }) => self.clear_journal(),
            Err(error) => Err(error),
        }
    }
}
