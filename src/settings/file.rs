//! The file itself: found, trusted, and read whole.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::geteuid;

use super::{Malformed, Settings};

/// Where the settings are unless `--config` says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/pluto-updown.toml";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: cannot read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file is none that decides about a firewall.
    #[error("{}: found {found}, expected {expected}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The file has content that is no setting.
    #[error("{}:{line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong in it.
        message: String,
    },
}

impl Settings {
    /// Reads the settings. Without a file at [`DEFAULT_PATH`] there are none; a file that
    /// `--config` names must be there.
    ///
    /// # Errors
    /// If the file cannot be read, if users other than root and this one may write it, or if it has
    /// content that is no setting.
    pub fn load(config: Option<&Path>) -> Result<Self, SettingsError> {
        Ok(Self::load_with_text(config)?.0)
    }

    /// The same, with the text of the file, which is empty where there is none.
    pub(crate) fn load_with_text(config: Option<&Path>) -> Result<(Self, String), SettingsError> {
        let text = Self::read_text(config)?;
        let settings =
            Self::parse(&text).map_err(|malformed| malformed.in_file(config.unwrap_or(Path::new(DEFAULT_PATH))))?;
        Ok((settings, text))
    }

    /// The text of the file, whatever it says.
    ///
    /// # Errors
    /// If the file cannot be read, if users other than root and this one may write it, or if it is
    /// no text.
    pub(crate) fn read_text(config: Option<&Path>) -> Result<String, SettingsError> {
        match config {
            Some(path) => read_opened(path, open_file(path)),
            None => Self::read_if_any(Path::new(DEFAULT_PATH)),
        }
    }

    /// Whether there is no settings file, so that defaults apply: none is named, and there is none
    /// at [`DEFAULT_PATH`].
    #[must_use]
    pub(crate) fn is_file_absent(config: Option<&Path>) -> bool {
        let path = Path::new(DEFAULT_PATH);
        config.is_none() && open_file(path).is_err_and(|error| is_absent(path, &error))
    }

    fn read_if_any(path: &Path) -> Result<String, SettingsError> {
        match open_file(path) {
            Err(error) if is_absent(path, &error) => Ok(String::new()),
            other => read_opened(path, other),
        }
    }
}

impl Malformed {
    pub(super) fn in_file(self, path: &Path) -> SettingsError {
        SettingsError::Malformed {
            path: path.to_owned(),
            line: self.line,
            message: self.message,
        }
    }
}

/// Whether a file could not be opened because there is none by that name. A symbolic link that
/// leads nowhere is no missing file: whoever made it expects that what it should lead to takes
/// effect.
pub(super) fn is_absent(path: &Path, error: &io::Error) -> bool {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    is_missing(error) && fs::symlink_metadata(path).is_err_and(|error| is_missing(&error))
}

/// Follows symbolic links: the file that is opened is the one that is looked at. Waits for nothing:
/// it may be a named pipe.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn read_opened(path: &Path, opened: io::Result<File>) -> Result<String, SettingsError> {
    let io = |error| SettingsError::Io {
        path: path.to_owned(),
        error,
    };
    let file = opened.map_err(io)?;
    let unfit = |(found, expected)| SettingsError::Unfit {
        path: path.to_owned(),
        found,
        expected,
    };
    check(&file.metadata().map_err(io)?).map_err(unfit)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(io)?;
    // Looked at again: it may have grown.
    if bytes.len() as u64 > LARGEST {
        return Err(unfit(too_large()));
    }
    utf8_text(&bytes)
        .map(str::to_owned)
        .map_err(|malformed| malformed.in_file(path))
}

/// What the file is, and what it must be, if it is not that: whoever can write it decides about the
/// firewall.
fn check(metadata: &Metadata) -> Result<(), (String, &'static str)> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_file() {
        return Err(("no regular file".to_owned(), "a regular file"));
    }
    if owner != 0 && owner != geteuid().as_raw() {
        return Err((
            format!("a file that user {owner} owns"),
            "one that root owns (chown root)",
        ));
    }
    if mode & 0o022 != 0 {
        return Err((
            format!("a file that others can write (mode {mode:04o})"),
            "one that only its owner can write (chmod go-w)",
        ));
    }
    if metadata.len() > LARGEST {
        return Err(too_large());
    }
    Ok(())
}

fn too_large() -> (String, &'static str) {
    ("more than 1 MiB".to_owned(), "at most that")
}

fn utf8_text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        Malformed {
            line: before.filter(|byte| **byte == b'\n').count() + 1,
            message: "found bytes that are not UTF-8, expected text in UTF-8".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    /// A file with the mode that it has on most systems, whatever the umask is here.
    fn file(content: &[u8]) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f.toml");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        (folder, path)
    }

    fn refusal(path: &Path) -> String {
        let message = Settings::load(Some(path)).unwrap_err().to_string();
        let at = path.display().to_string();
        message.strip_prefix(&at).expect(&message).to_owned()
    }

    #[test]
    fn a_file_is_read_through_a_symbolic_link() {
        let (folder, path) = file(b"[tunnel]\nlog = \"new\"\n");
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        let settings = Settings::load(Some(&link)).unwrap();
        assert_eq!(settings, Settings::load(Some(&path)).unwrap());
        assert_ne!(settings, Settings::default());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_no_missing_file() {
        let (folder, path) = file(b"");
        let link = folder.path().join("link");
        assert_eq!(Settings::read_if_any(&link).unwrap(), "");
        symlink(folder.path().join("nowhere"), &link).unwrap();
        let error = Settings::read_if_any(&link).unwrap_err().to_string();
        assert!(
            error.ends_with("link: cannot read: No such file or directory (os error 2)"),
            "{error}"
        );
        fs::remove_file(&link).unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(Settings::read_if_any(&link).unwrap(), "");
    }

    #[test]
    fn a_file_that_others_may_write_is_refused_also_behind_a_link() {
        let (folder, path) = file(b"");
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        for (mode, refused) in [(0o664, "0664"), (0o646, "0646"), (0o1777, "1777")] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let expected = format!(
                ": found a file that others can write (mode {refused}), expected one that only its owner can write (chmod go-w)"
            );
            assert_eq!(refusal(&path), expected);
            assert_eq!(refusal(&link), expected);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Settings::load(Some(&path)).unwrap(), Settings::default());
    }

    #[test]
    #[ignore = "needs root to give a file away: run by contrib/test"]
    fn a_file_of_somebody_else_is_refused() {
        let (_folder, path) = file(b"");
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        assert_eq!(
            refusal(&path),
            ": found a file that user 4711 owns, expected one that root owns (chown root)"
        );
    }

    #[test]
    fn what_is_no_plain_file_is_refused_and_not_waited_for() {
        let (folder, _path) = file(b"");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [pipe.as_path(), folder.path()] {
            assert_eq!(refusal(path), ": found no regular file, expected a regular file");
        }
    }

    #[test]
    fn a_file_beyond_all_measure_is_refused() {
        let (_folder, path) = file(&vec![b'\n'; 1 << 20]);
        assert_eq!(Settings::load(Some(&path)).unwrap(), Settings::default());
        fs::write(&path, vec![b'\n'; (1 << 20) + 1]).unwrap();
        assert_eq!(refusal(&path), ": found more than 1 MiB, expected at most that");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let (_folder, path) = file(b"# one\n# \xff\n");
        assert_eq!(
            refusal(&path),
            ":2: found bytes that are not UTF-8, expected text in UTF-8"
        );
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let (folder, _path) = file(b"");
        let missing = folder.path().join("missing");
        assert_eq!(
            refusal(&missing),
            ": cannot read: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn an_error_names_the_file_and_the_line() {
        let (_folder, path) = file(b"\n[tunnel]\nalow = \"all\"\n");
        assert!(
            refusal(&path).starts_with(":3: tunnel.alow: found "),
            "{}",
            refusal(&path)
        );
    }
}
