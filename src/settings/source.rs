//! One configuration file while it is read: its text, what it is allowed to refer to, and what is wrong with it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::file::{Content, Files, ReadError};
use super::problem::Problem;

/// The largest configuration file that is read.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// The largest file that a configuration may refer to.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Beyond this size only the first syntax error is reported: millions of them would take memory and help nobody.
const RECOVERABLE_BYTES: usize = 256 << 10;
/// How many problems of one file are listed.
const MAX_PROBLEMS: usize = 1000;

/// What a file is allowed to refer to.
#[derive(Clone, Debug)]
pub enum Rules {
    /// The main file: any file, and the environment.
    Main,
    /// An included file: only files below these directories.
    Fragment {
        /// The directories; none means that it may read no file at all.
        secret_dirs: Arc<[PathBuf]>,
    },
}

/// A problem before its line and column are known.
struct Raw {
    offset: usize,
    path: String,
    message: String,
}

/// One configuration file while it is read.
pub struct Source<'a> {
    file: Arc<Path>,
    text: &'a str,
    rules: Rules,
    files: &'a Files,
    raw: RefCell<Vec<Raw>>,
}

impl<'a> Source<'a> {
    /// The file of that name and text. Files that it refers to are read through `files`.
    pub fn new(file: &Arc<Path>, text: &'a str, rules: Rules, files: &'a Files) -> Self {
        Self { file: file.clone(), text, rules, files, raw: RefCell::default() }
    }

    /// Parses the text. `None` if its structure cannot be relied on; every syntax error is then recorded, and nothing
    /// else can be said about the file, because keys may have slipped from one table into another.
    pub fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        if self.text.trim_start_matches('\u{feff}').trim().is_empty() {
            self.record(0, "", "the file is empty; a file without probes holds at least a comment".into());
            return None;
        }
        if let Some(offset) = self.text.find('\0') {
            self.record(offset, "", "the file contains a NUL byte; it is not text, or was only half written".into());
            return None;
        }
        let first = match DeTable::parse(self.text) {
            Ok(table) => return Some(table),
            Err(error) => error,
        };
        if self.text.len() > RECOVERABLE_BYTES {
            self.syntax(&first);
            return None;
        }
        let (table, mut errors) = DeTable::parse_recoverable(self.text);
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        // One error makes the parser stumble over the rest of its line.
        let line = |error: &Error| error.span().and_then(|span| self.text.get(..span.start)?.rfind('\n'));
        let mut last = None;
        for error in &errors {
            let line = line(error);
            if last.replace(line) != Some(line) {
                self.syntax(error);
            }
        }
        // A duplicate leaves every other key where it belongs, so that the rest of the file can still be checked.
        errors.iter().all(|error| error.message() == "duplicate key").then_some(table)
    }

    /// The parser's `message` says what was expected; its `Display` would show the line, which may hold a secret.
    fn syntax(&self, error: &Error) {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message();
        self.record(
            offset,
            "",
            if message == "duplicate key" { message.into() } else { format!("not TOML: {message}") },
        );
    }

    /// Records a problem at a place of the text.
    pub fn record(&self, offset: usize, path: &str, message: String) {
        self.raw.borrow_mut().push(Raw { offset, path: path.to_owned(), message });
    }

    /// How many problems are recorded.
    pub fn count(&self) -> usize {
        self.raw.borrow().len()
    }

    /// The recorded problems with their places, in order.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut raw = self.raw.into_inner();
        raw.sort_by(|a, b| (a.offset, &a.path, &a.message).cmp(&(b.offset, &b.path, &b.message)));
        let hidden = raw.len().saturating_sub(MAX_PROBLEMS);
        raw.truncate(MAX_PROBLEMS);
        let mut place = Place { text: self.text, offset: 0, line: 1, column: 1 };
        let mut problems: Vec<_> = raw
            .into_iter()
            .map(|Raw { offset, path, message }| {
                place.advance(offset);
                Problem { file: self.file.clone(), line: place.line, column: place.column, path, message }
            })
            .collect();
        if hidden > 0
            && let Some(last) = problems.last().cloned()
        {
            problems.push(Problem { path: String::new(), message: format!("and {hidden} more problems"), ..last });
        }
        problems
    }

    /// Whether missing secrets are to be replaced by a placeholder.
    pub(super) fn without_secrets(&self) -> bool {
        self.files.without_secrets
    }

    /// Whether this is the main file.
    pub(super) fn is_main(&self) -> bool {
        matches!(self.rules, Rules::Main)
    }

    /// The path that a relative one in this file means.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reads a file that this one refers to, if it is allowed to. `Ok(None)` stands for one that may be missing.
    ///
    /// # Errors
    /// Why it cannot or must not be read, in words.
    pub fn read(&self, path: &Path) -> Result<Option<Arc<Content>>, Cow<'static, str>> {
        let read = match &self.rules {
            Rules::Main => self.files.read(path, MAX_FILE_BYTES),
            Rules::Fragment { secret_dirs } => {
                let real = allowed(path, secret_dirs).inspect_err(|_| self.files.refuse(path))?;
                self.files.read_resolved(path, real, MAX_FILE_BYTES)
            }
        };
        match read {
            Ok(content) => Ok(Some(content)),
            Err(ReadError::Missing) if self.without_secrets() => Ok(None),
            Err(error) => Err(format!("cannot read the file: {error}").into()),
        }
    }
}

/// Whether a fragment may read the file. Links are followed first, so that one that leads out of the directory is
/// refused, while Kubernetes' `..data` links, which stay inside, work. The result is the path without links, or why
/// there is none.
fn allowed(path: &Path, dirs: &[PathBuf]) -> Result<Result<PathBuf, ReadError>, &'static str> {
    const REFUSED: &str = "an included file may read only files below the `secret_dirs` of its [[include]]";
    if dirs.is_empty() {
        return Err("an included file may read no file, because its [[include]] has no `secret_dirs`");
    }
    let below = |real: &Path| dirs.iter().filter_map(|dir| dir.canonicalize().ok()).any(|dir| real.starts_with(dir));
    let parent = || path.parent().map(Path::canonicalize);
    let real = path.canonicalize();
    let inside = match &real {
        Ok(real) => below(real),
        // What does not exist is where its directory is, and if that does not either, where it is written to be. The
        // words must not tell whether a file outside exists.
        Err(_) => match parent() {
            Some(Ok(real)) => below(&real),
            _ => {
                path.components().all(|part| part != Component::ParentDir)
                    && dirs.iter().any(|dir| path.starts_with(dir))
            }
        },
    };
    if inside { Ok(real.map_err(ReadError::from)) } else { Err(REFUSED) }
}

/// A position in a text that only moves forward, so that placing all problems takes one pass.
struct Place<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
    column: usize,
}

impl Place<'_> {
    fn advance(&mut self, to: usize) {
        // A place within a character, should the parser ever give one, is that of the character.
        let to = (0..=to.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        for c in self.text[self.offset..to.max(self.offset)].chars() {
            match c {
                '\n' => (self.line, self.column) = (self.line + 1, 1),
                // A byte order mark takes no column in an editor.
                '\u{feff}' => {}
                _ => self.column += 1,
            }
        }
        self.offset = to.max(self.offset);
    }
}
