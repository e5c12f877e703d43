//! Secrets: named by the configuration, never written in it.

use std::fmt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::section::Section;
use super::source::Source;
use super::value::{Invalid, Item, Value};
use crate::host;

const EXPECTED: &str = "a secret is named by { file = \"…\" } or { env = \"…\" }";

/// A password, token or pass phrase. Never shown, wiped from memory when dropped, and part of equality, so that a
/// rotated file is a change of the configuration.
#[derive(Clone)]
pub struct Secret {
    value: Zeroizing<String>,
    placeholder: bool,
    /// No part of equality: moving the file is no change.
    path: Option<PathBuf>,
}

impl Secret {
    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Whether the file or variable is missing and the configuration is only checked, without secrets.
    pub fn is_placeholder(&self) -> bool {
        self.placeholder
    }

    /// The file it was read from; `None` if it was none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn placeholder() -> Self {
        Self { value: Zeroizing::new("placeholder".to_owned()), placeholder: true, path: None }
    }

    /// Checks the bytes of a file or variable. One trailing line end is not part of the secret: editors add it.
    fn checked(bytes: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(bytes).map_err(|_| Invalid::new("the secret is not UTF-8"))?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() {
            return Err(Invalid::new("the secret is empty"));
        }
        Ok(Self { value: Zeroizing::new(text.to_owned()), placeholder: false, path: None })
    }

    /// `{ordinal}` in the path is the number of this replica, so that each can have a key of its own.
    fn from_file(source: &Source<'_>, path: &Path) -> Result<Self, Invalid> {
        let path = match path.to_str() {
            Some(text) => PathBuf::from(&*host::fill(text, source.without_secrets()).map_err(Invalid::new)?),
            None => path.to_owned(),
        };
        match source.read(&path).map_err(Invalid::new)? {
            Some(content) => Ok(Self { path: Some(path), ..Self::checked(content.bytes())? }),
            None => Ok(Self::placeholder()),
        }
    }

    /// An included file cannot use the environment: it would see the secrets of other teams.
    fn from_env(source: &Source<'_>, name: &str) -> Result<Self, Invalid> {
        if !source.is_main() {
            return Err(Invalid::new("only the main file may use the environment; name a file below `secret_dirs`"));
        }
        if name.contains(['=', '\0']) {
            return Err(Invalid::new("this is not the name of an environment variable"));
        }
        match std::env::var_os(name) {
            Some(value) => Self::checked(std::os::unix::ffi::OsStrExt::as_bytes(value.as_os_str())),
            None if source.without_secrets() => Ok(Self::placeholder()),
            None => Err(Invalid::new("the environment variable is not set")),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.placeholder == other.placeholder && bool::from(self.value.as_bytes().ct_eq(other.value.as_bytes()))
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Value for Secret {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        if item.str().is_some() {
            return Err(Invalid::new(format!("a secret is not written in the configuration; {EXPECTED}")));
        }
        if !item.toml().is_table() {
            return Err(Invalid::new(format!("{EXPECTED}, found {}", item.kind())));
        }
        match item.table(read_place)? {
            Place::File(path) => Self::from_file(item.source(), &path),
            Place::Env(name) => Self::from_env(item.source(), &name),
        }
    }
}

enum Place {
    File(PathBuf),
    Env(String),
}

fn read_place(section: &mut Section<'_>) -> Option<Place> {
    let (file, env) = (section.optional("file"), section.optional("env"));
    match (file, env) {
        (Some(file), None) if !section.has("env") => Some(Place::File(file)),
        (None, Some(env)) if !section.has("file") => Some(Place::Env(env)),
        _ if section.has("file") != section.has("env") => None,
        _ => {
            section.problem(None, EXPECTED);
            None
        }
    }
}
