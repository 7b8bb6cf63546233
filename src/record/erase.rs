//! Forgetting a rulebook.

use super::error::RecordError;
use super::file;
use super::store::Store;
use crate::netfilter::Rulebook;

impl Store {
    /// Forgets everything that is on record in a rulebook, whether or not it can be read. The kernel must hold nothing of it any more.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn erase(&self, rulebook: Rulebook) -> Result<(), RecordError> {
        file::remove_tree(&self.rulebook_folder(rulebook))?;
        match self.pending() {
            Ok(Some(pending)) if pending.rulebook != rulebook => Ok(()),
            // One that cannot be read says nothing of use either.
            Ok(_) | Err(RecordError::Malformed { .. }) => self.settled(),
            Err(error) => Err(error),
        }
    }
}
