//! The last valid settings, kept on disk: for a boot with a file that is not understood.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::settings::{DEFAULT_PATH, Settings, SettingsError};

/// Their folder, below the root of the file system: the record's own folder is removed at boot.
const FOLDER: &str = "var/lib/pluto-updown";

/// The copy of one settings file.
pub(super) struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// That of a settings file: of the usual one, or of another that `--config` names.
    pub(super) fn for_config(root: &Path, config: Option<&Path>) -> Self {
        let config = config.unwrap_or(Path::new(DEFAULT_PATH)).to_string_lossy();
        let name = config.replace('%', "%25").replace('/', "%2F");
        Self {
            path: root.join(FOLDER).join(name),
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Saves a text that is valid and applied. An unchanged text is not written again. A system
    /// without `/var/lib` saves none, because this program does not make that folder.
    pub(super) fn keep(&self, text: &str) -> io::Result<()> {
        if fs::read(&self.path).is_ok_and(|kept| kept == text.as_bytes()) {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let new = folder.join(format!("new.{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let kept = written.and_then(|()| fs::rename(&new, &self.path));
        if kept.is_err() {
            let _ = fs::remove_file(&new);
        }
        kept
    }

    /// Reads it with the care that any settings file gets; nothing, if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is not understood, by a newer version perhaps.
    pub(super) fn load(&self) -> Result<Option<Settings>, SettingsError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(_) | Ok(_) => Settings::load(Some(&self.path)).map(Some),
        }
    }
}
