//! The journal's file, as its one writer has it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The name of the file in the state directory.
const NAME: &str = "backups.journal";
/// Who has this file locked is the writer. The journal itself is replaced now and then, and a lock does not move along.
const LOCK: &str = "backups.lock";
/// The next journal while it is being written.
const NEXT: &str = "backups.journal.tmp";
/// The last journal that was damaged, for whoever wants to know what it held.
const DAMAGED: &str = "backups.journal.damaged";

/// Which file it is, and how long: who reads it again reads the same.
pub(super) type Version = (u64, u64, u64);

/// The journal in a state directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Which version is there; `None` if there is none.
pub(super) fn version(dir: &Path) -> Option<Version> {
    fs::metadata(path(dir)).ok().map(|meta| (meta.dev(), meta.ino(), meta.len()))
}

/// Writes the journal, and nobody else does as long as it is there.
pub(super) struct Writer {
    dir: PathBuf,
    file: File,
    /// So many bytes of it are lines that were written and are on disk.
    length: u64,
    /// Whether there may be more: part of a line that could not be written.
    is_torn: bool,
    _lock: File,
}

impl Writer {
    /// The journal is refused to grow beyond that, in bytes.
    pub(super) const LARGEST: u64 = 256 << 20;

    /// Makes what is not there, and locks it.
    ///
    /// # Errors
    /// Another process has it, or what the system says.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(io::Error::other("another midwatch writes there")),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path(dir))?;
        if file.metadata()?.mode() & 0o7777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        sync(dir)?;
        let length = file.metadata()?.len();
        Ok(Self { dir: dir.to_owned(), file, length, is_torn: false, _lock: lock })
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Which version it is.
    pub(super) fn version(&self) -> Option<Version> {
        version(&self.dir)
    }

    /// Whether the file is where it belongs: not if somebody has deleted it.
    pub(super) fn is_there(&self) -> bool {
        let here = self.file.metadata().map(|meta| (meta.dev(), meta.ino()));
        here.is_ok_and(|here| self.version().is_some_and(|(device, inode, _)| here == (device, inode)))
    }

    /// Takes away what is beyond that many bytes.
    ///
    /// # Errors
    /// What the system says; it will be tried again.
    pub(super) fn cut(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.is_torn = true;
        self.mend()
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.file.sync_data()?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Adds lines, so that they are there after a crash: all or, as soon as it is noticed, nothing.
    ///
    /// # Errors
    /// What the system says, or that it would become too large.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.mend()?;
        let length = self.length + lines.len() as u64;
        if length > Self::LARGEST {
            return Err(io::Error::other(format!("the journal has {} MiB and must not grow", self.length >> 20)));
        }
        if let Err(error) = self.file.write_all(lines).and_then(|()| self.file.sync_data()) {
            self.is_torn = true;
            // If this fails too, it comes before the next line.
            let _ = self.mend();
            return Err(error);
        }
        self.length = length;
        Ok(())
    }

    /// Tries whether there is room for so many bytes more, and leaves none of them.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn try_room(&mut self, length: usize) -> io::Result<()> {
        self.mend()?;
        self.is_torn = true;
        let tried = self.file.write_all(&vec![b' '; length]).and_then(|()| self.file.sync_data());
        let mended = self.mend();
        tried.and(mended)
    }

    /// Writes it anew, whole or not at all. `keep`: the old one is kept beside it.
    ///
    /// # Errors
    /// What the system says; the old one is as it was.
    pub(super) fn replace(&mut self, lines: impl Iterator<Item = io::Result<Vec<u8>>>, keep: bool) -> io::Result<()> {
        let next = self.dir.join(NEXT);
        // Left over from a crash; opened anew below so that its mode is ours.
        let _ = fs::remove_file(&next);
        let written = self.write_next(&next, lines);
        if written.is_err() {
            // It may be what fills the disk.
            let _ = fs::remove_file(&next);
        }
        let (file, length) = written?;
        if keep {
            let damaged = self.dir.join(DAMAGED);
            let _ = fs::remove_file(&damaged);
            fs::hard_link(path(&self.dir), damaged)?;
        }
        fs::rename(&next, path(&self.dir))?;
        (self.file, self.length, self.is_torn) = (file, length, false);
        sync(&self.dir)
    }

    fn write_next(&self, next: &Path, lines: impl Iterator<Item = io::Result<Vec<u8>>>) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(next)?;
        let mut length = 0;
        for line in lines {
            let line = line?;
            file.write_all(&line)?;
            length += line.len() as u64;
        }
        file.sync_all()?;
        Ok((file, length))
    }
}

/// Has the names in a directory written to disk.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
