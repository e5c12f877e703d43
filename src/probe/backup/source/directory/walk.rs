//! Walks a directory, and walks it again without looking at everything again.
//!
//! A folder is listed again when its own time has changed: a file came, went, or was renamed. Files are looked at when they are new,
//! have changed within a day, or have not been looked at for ten minutes, because to write into a file changes no folder.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tokio::time::Instant;

use super::super::selection::{Entry, Rules, Selection};
use super::failure;
use crate::probe::{Failure, Reason};

/// So many files are kept in mind.
const MOST: usize = 1_000_000;
/// Folders may be so deep: all of it is a backup's own affair.
const DEEPEST: usize = 64;
/// The time of a folder that changed less than so many seconds ago may stay the same when it changes again: some file systems count
/// in whole seconds, or in twos.
const COARSE: f64 = 2.0;
/// A folder with at most so many files is looked at whole each time.
const SMALL: usize = 1000;
/// Files of a larger one that have changed within so many seconds are looked at each time, all others every so many.
const RECENT: f64 = 86_400.0;
const EVERY: f64 = 600.0;
/// So many files are looked at between two looks at the clock.
const STRIDE: u32 = 64;

/// A folder as it was.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// What it was listed as; `None` if it has to be listed again.
    stamp: Option<Stamp>,
    /// What matters in it, in the order of names in which a folder's ends with a `/`.
    children: Vec<Child>,
}

/// Tells whether a folder has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

#[derive(Debug)]
struct Child {
    name: Box<str>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A file that has not been looked at.
    New,
    File(File),
    Folder(Box<Folder>),
}

#[derive(Debug)]
struct File {
    size: u64,
    modified: f64,
    /// When it was looked at, in unix seconds.
    looked: f64,
    /// Whether it was another one when it was looked at before.
    grew: bool,
}

/// One walk.
pub(super) struct Walk<'w> {
    rules: &'w Rules,
    root: &'w Path,
    now: f64,
    stop: Instant,
    /// Where it is: what the names of all in this folder begin with.
    prefix: String,
    /// Whether anything is not as it was.
    pub changed: bool,
    /// How many files and folders there are.
    count: usize,
    /// How many were listed, and how many looked at, in this walk.
    steps: u32,
    #[cfg(test)]
    pub looks: usize,
}

impl<'w> Walk<'w> {
    /// `now` is in unix seconds; at `stop` it gives up.
    pub fn new(rules: &'w Rules, root: &'w Path, now: f64, stop: Instant) -> Self {
        Self {
            rules,
            root,
            now,
            stop,
            prefix: String::new(),
            changed: false,
            count: 0,
            steps: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Brings what is known of the directory up to date. After a failure it goes on from there the next time.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn refresh(&mut self, tree: &mut Folder) -> Result<(), Failure> {
        // Only the directory itself may be a symbolic link.
        let metadata = fs::metadata(self.root).map_err(|error| failure("the directory", &error))?;
        self.folder(tree, &metadata)
    }

    fn folder(&mut self, folder: &mut Folder, metadata: &Metadata) -> Result<(), Failure> {
        if self.prefix.matches('/').count() > DEEPEST {
            return Err(Failure::new(Reason::Local, format!("folders are more than {DEEPEST} deep")));
        }
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let stamp = Stamp { device: metadata.dev(), inode: metadata.ino(), modified };
        if folder.stamp != Some(stamp) {
            self.list(folder)?;
            self.changed = true;
            let is_final = self.now - time(metadata) >= COARSE;
            folder.stamp = is_final.then_some(stamp);
        }
        self.count += folder.children.len();
        if self.count > MOST {
            return Err(too_many());
        }
        let is_small = folder.children.len() <= SMALL;
        let mut has_gone = false;
        for child in &mut folder.children {
            has_gone |= !self.child(child, is_small)?;
        }
        if has_gone {
            // What vanished between the listing and the look is not there when it is listed again.
            folder.stamp = None;
            folder.children.retain(|child| !matches!(child.kind, Kind::New));
        }
        Ok(())
    }

    /// Lists the names of a folder, and keeps what is known of those that were there before.
    fn list(&mut self, folder: &mut Folder) -> Result<(), Failure> {
        let unreadable = |error: io::Error| failure("the directory", &error);
        let start = self.prefix.len();
        let mut children = Vec::new();
        for entry in fs::read_dir(self.root.join(&self.prefix)).map_err(unreadable)? {
            self.step()?;
            let entry = entry.map_err(unreadable)?;
            // A name that is no UTF-8 matches no pattern.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().map_err(unreadable)?;
            self.prefix.push_str(&name);
            let matters = match kind {
                kind if kind.is_dir() => self.rules.leads(&self.prefix),
                kind => kind.is_file() && self.rules.is_relevant(&self.prefix),
            };
            self.prefix.truncate(start);
            if matters {
                let kind = if kind.is_dir() { Kind::Folder(Box::default()) } else { Kind::New };
                children.push(Child { name: name.into(), kind });
            }
            if children.len() > MOST {
                return Err(too_many());
            }
        }
        children.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        let mut known = std::mem::take(&mut folder.children).into_iter().peekable();
        for child in &mut children {
            while known.next_if(|known| known.key().lt(child.key())).is_some() {}
            if let Some(known) = known.next_if(|known| known.key().eq(child.key())) {
                *child = known;
            }
        }
        folder.children = children;
        Ok(())
    }

    /// Looks at a file or folder, if it is time to. Says whether it is still there; one that is not becomes [`Kind::New`].
    fn child(&mut self, child: &mut Child, is_small: bool) -> Result<bool, Failure> {
        if let Kind::File(file) = &child.kind {
            let is_due = self.now - file.modified < RECENT || (self.now - file.looked).abs() >= EVERY;
            if !is_small && !is_due && !file.grew {
                return Ok(true);
            }
        }
        self.step()?;
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let start = self.prefix.len();
        self.prefix.push_str(&child.name);
        let metadata = fs::symlink_metadata(self.root.join(&self.prefix));
        self.prefix.truncate(start);
        let metadata = match metadata {
            Ok(metadata) if metadata.is_dir() == child.is_folder() && !metadata.is_symlink() => metadata,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failure("the directory", &error)),
            _ => {
                child.kind = Kind::New;
                self.changed = true;
                return Ok(false);
            }
        };
        if let Kind::Folder(folder) = &mut child.kind {
            self.prefix.push_str(&child.name);
            self.prefix.push('/');
            let done = self.folder(folder, &metadata);
            self.prefix.truncate(start);
            return done.map(|()| true);
        }
        let (size, modified) = (metadata.size(), time(&metadata));
        let (grew, did_grow) = match &child.kind {
            Kind::File(known) => ((known.size, known.modified) != (size, modified), known.grew),
            _ => (false, true),
        };
        self.changed |= grew || did_grow;
        child.kind = Kind::File(File { size, modified, looked: self.now, grew });
        Ok(true)
    }

    fn step(&mut self) -> Result<(), Failure> {
        self.steps += 1;
        if self.steps % STRIDE == 1 && Instant::now() >= self.stop {
            let looked = self.steps - 1;
            let detail = format!(
                "{looked} files were listed or looked at in the time there was; the next reading goes on from there"
            );
            return Err(Failure::new(Reason::Timeout, detail));
        }
        Ok(())
    }
}

impl Folder {
    /// Tells all files in the order of their names.
    ///
    /// # Errors
    /// None but the selection's.
    pub fn tell(&self, selection: &mut Selection<'_>) -> Result<(), Failure> {
        self.tell_below(&mut String::new(), selection)
    }

    fn tell_below(&self, prefix: &mut String, selection: &mut Selection<'_>) -> Result<(), Failure> {
        let start = prefix.len();
        for child in &self.children {
            prefix.push_str(&child.name);
            match &child.kind {
                Kind::New => {}
                Kind::File(file) => {
                    let File { size, modified, grew, .. } = *file;
                    selection.add(Entry { name: prefix, size, modified, grew })?;
                }
                Kind::Folder(folder) => {
                    prefix.push('/');
                    folder.tell_below(prefix, selection)?;
                }
            }
            prefix.truncate(start);
        }
        Ok(())
    }

    /// For tests: as if the last reading had been cut off half-way through its looks.
    #[cfg(test)]
    pub fn forget_half(&mut self) {
        for child in self.children.iter_mut().step_by(2) {
            child.kind = Kind::New;
        }
    }
}

impl Child {
    fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder(_))
    }

    /// What it is sorted by: all names below a folder begin with its own and a `/`.
    fn key(&self) -> impl Iterator<Item = u8> {
        self.name.bytes().chain(self.is_folder().then_some(b'/'))
    }
}

fn too_many() -> Failure {
    Failure::new(Reason::Local, format!("there are more than {MOST} files"))
}

/// When it changed last, in unix seconds.
fn time(metadata: &Metadata) -> f64 {
    metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9
}
