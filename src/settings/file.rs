//! Files that a configuration consists of or refers to: each is read once per load, whole, and with limits.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::value::{Invalid, Item, Value};

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It does not exist.
    #[error("it does not exist")]
    Missing,
    /// It exists but this process may not read it.
    #[error("permission denied")]
    Permission,
    /// It is a directory.
    #[error("it is a directory, not a file")]
    Directory,
    /// It is a pipe, a socket or a device.
    #[error("it is not a regular file")]
    Special,
    /// It is larger than the limit.
    #[error("it is larger than {}", super::size::Size(*.0))]
    TooLarge(u64),
    /// The system said something else.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A path through something that is no directory, or one with a NUL, names no file either.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::InvalidInput => Self::Other("it is not a valid file name".into()),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// The bytes of a file and their hash. Wiped from memory with the last owner, because they may be a secret.
pub struct Content {
    bytes: Zeroizing<Vec<u8>>,
    hash: [u8; 32],
}

impl Content {
    fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        let hash = Sha256::digest(&bytes).into();
        Self { bytes, hash }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The SHA-256 of the bytes.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.bytes.len())
    }
}

type Entry = Result<Arc<Content>, ReadError>;

/// What a load saw of a file.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Its hash, or why there is none.
    Content {
        /// The limit it was read with.
        limit: u64,
        /// The hash.
        hash: Result<[u8; 32], ReadError>,
    },
    /// It was refused for what it leads to, and not read.
    Refused(Option<PathBuf>),
}

/// The files of one load. Each is read at most once, so that a load sees one version of it, and one CA file that 5 000
/// probes name is read once.
#[derive(Debug, Default)]
pub struct Files {
    pub(super) without_secrets: bool,
    read: RefCell<HashMap<PathBuf, Entry>>,
    used: RefCell<BTreeMap<PathBuf, u64>>,
    refused: RefCell<BTreeMap<PathBuf, Option<PathBuf>>>,
}

impl Files {
    /// No file has been read yet. `without_secrets`: files and variables that are referred to may be missing.
    pub fn new(without_secrets: bool) -> Self {
        Self { without_secrets, ..Self::default() }
    }

    /// The content of a file, which then counts as one that the configuration depends on.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(&self, path: &Path, limit: u64) -> Entry {
        if !self.used.borrow().contains_key(path) {
            self.used.borrow_mut().insert(path.to_owned(), limit);
        }
        self.peek(path, limit)
    }

    /// The same of a path whose links were followed before, or could not be: what was followed is what is opened, so
    /// that a link which is changed meanwhile leads nowhere else. The configuration depends on the path.
    pub(super) fn read_resolved(&self, path: &Path, real: Result<PathBuf, ReadError>, limit: u64) -> Entry {
        let entry = real.and_then(|real| self.peek(&real, limit));
        self.used.borrow_mut().entry(path.to_owned()).or_insert(limit);
        self.read.borrow_mut().entry(path.to_owned()).or_insert_with(|| entry.clone());
        entry
    }

    /// The same as `read`, without making the configuration depend on it.
    fn peek(&self, path: &Path, limit: u64) -> Entry {
        if let Some(entry) = self.read.borrow().get(path) {
            return entry.clone();
        }
        let entry = read(path, limit).map(|bytes| Arc::new(Content::new(bytes)));
        self.read.borrow_mut().insert(path.to_owned(), entry.clone());
        entry
    }

    /// Makes the configuration depend on what a file leads to, which must not be read.
    pub(super) fn refuse(&self, path: &Path) {
        self.refused.borrow_mut().insert(path.to_owned(), path.canonicalize().ok());
    }

    /// Whether a file is what an earlier load saw.
    pub fn still(&self, path: &Path, seen: &Seen) -> bool {
        match seen {
            Seen::Content { limit, hash } => self.peek(path, *limit).map(|content| content.hash) == *hash,
            Seen::Refused(real) => path.canonicalize().ok() == *real,
        }
    }

    /// Every file that the configuration depends on, with what was seen of it.
    pub fn seen(&self) -> Vec<(PathBuf, Seen)> {
        let read = self.read.borrow();
        let hash = |path| read.get(path).map(|entry: &Entry| entry.clone().map(|content| content.hash));
        let used = self.used.borrow();
        let content = used
            .iter()
            .filter_map(|(path, limit)| Some((path.clone(), Seen::Content { limit: *limit, hash: hash(path)? })));
        let refused = self.refused.borrow();
        content.chain(refused.iter().map(|(path, real)| (path.clone(), Seen::Refused(real.clone())))).collect()
    }
}

/// Reads a regular file. Opening does not block on a pipe, and what was opened is what is examined.
fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY);
    let file = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Err(ReadError::Special),
        other => other?,
    };
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(ReadError::Directory);
    }
    if !about.is_file() {
        return Err(ReadError::Special);
    }
    if about.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    // Sized beforehand: a vector that grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1));
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(bytes)
}

/// A file that a probe refers to: a CA, a certificate, a key, a list of targets. Equal if the contents are, so that
/// rotating the file is a change and moving it is none.
#[derive(Clone)]
pub struct FileContent {
    path: PathBuf,
    content: Option<Arc<Content>>,
}

impl FileContent {
    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes; none if this is a [placeholder](Self::is_placeholder).
    pub fn bytes(&self) -> &[u8] {
        self.content.as_ref().map_or(&[], |content| content.bytes())
    }

    /// Whether the file is missing and the configuration is only checked, without secrets: what depends on the content
    /// is then not to be checked.
    pub fn is_placeholder(&self) -> bool {
        self.content.is_none()
    }

    /// The SHA-256 of its bytes; `None` if this is a placeholder.
    pub fn hash(&self) -> Option<&[u8; 32]> {
        self.content.as_ref().map(|content| content.hash())
    }
}

impl PartialEq for FileContent {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for FileContent {}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContent").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Value for FileContent {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let path = PathBuf::read(item)?;
        let content = item.source().read(&path).map_err(Invalid::new)?;
        Ok(Self { path, content })
    }
}
