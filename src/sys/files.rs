//! Reads files that other programs wrote, without waiting and up to a size limit.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc;

/// Reads a plain file of at most `limit` bytes. A named pipe, a device or a folder is refused and
/// not waited for.
///
/// # Errors
/// If it cannot be read, is no plain file, or is larger.
pub(crate) fn read_plain(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    // Counted, not asked for: files of /proc say that they are empty.
    match content.len() as u64 > limit {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        )),
        false => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_file_or_too_large_is_refused_and_not_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read_plain(path, 10).unwrap_err().to_string(), "not a regular file");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, [b'x'; 10]).unwrap();
        assert_eq!(read_plain(&file, 10).unwrap().len(), 10);
        assert_eq!(read_plain(&file, 9).unwrap_err().to_string(), "larger than 9 bytes");
    }
}
