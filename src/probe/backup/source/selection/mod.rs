//! Which of many files or objects are backups, and which of those are complete: for directories and buckets alike.
//!
//! A listing is given entry by entry, in ascending order of names, as buckets give theirs: all that belongs to one backup begins with
//! its name, so that only a few backups are under judgement at a time, and a listing of any length needs little memory.

mod found;
mod judge;
mod manifest;

use std::time::Duration;

use glob::{MatchOptions, Pattern};

pub use self::found::{Found, Wanted};
pub use self::judge::{Paused, Selection};
pub use self::manifest::{Manifest, Manifests, fuzz, is_time};
use crate::settings::Section;

/// What is no backup unless the configuration says otherwise: what is still being written, and what is hidden.
const IGNORED: [&str; 4] = ["*.part", "*.tmp", "*.partial", ".*"];
/// Without a marker a backup counts once it has not changed for so long.
const SETTLE: Duration = Duration::from_secs(120);
/// What stands for a backup's name in the names of its markers.
const NAME: &str = "{name}";

const CASE: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// What tells backups from other files: the keys that a directory and a bucket have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// A pattern for each folder of the name, the last one for the backup itself.
    pattern: Vec<Pattern>,
    /// What all names begin with that can match.
    prefix: String,
    /// What no part of a name may match.
    ignore: Vec<Pattern>,
    /// With these endings a name is that of a backup that is being written.
    partial: Vec<String>,
    /// What the marker's name has after the backup's: of the one that says that it is complete,
    complete: Option<String>,
    /// of the one that says that it has begun,
    started: Option<String>,
    /// and of the file that describes it.
    manifest: Option<String>,
    /// Without a marker it counts once it has not changed for so many seconds.
    settle: f64,
}

/// A file or an object.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'e> {
    /// Its name below the directory or the bucket, folders separated by `/`.
    pub name: &'e str,
    /// In bytes.
    pub size: u64,
    /// When it changed last, in unix seconds.
    pub modified: f64,
    /// Whether it was another one when it was looked at before: somebody is writing it.
    pub grew: bool,
}

/// What a file is to a backup.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    /// The backup itself, or a file of the folder that is the backup.
    Data,
    /// The same under the name that it has while it is being written.
    Partial,
    /// Says that it is complete.
    Complete,
    /// Says that it has begun.
    Started,
    /// Describes it.
    Manifest,
}

impl Rules {
    /// Reads `pattern`, `ignore`, `complete`, `started`, `manifest` and `settle`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let pattern = section.required::<String>("pattern");
        let ignore = section.or("ignore", IGNORED.map(str::to_owned).to_vec());
        let [complete, started, manifest] = ["complete", "started", "manifest"].map(|key| {
            let template = section.checked(key, |template: &String| suffix(template).map(drop))?;
            suffix(&template).ok().map(str::to_owned)
        });
        let settle = section.checked("settle", |settle: &Duration| {
            let good = *settle <= Duration::from_secs(86_400);
            if good { Ok(()) } else { Err("must be at most 1d".to_owned()) }
        });
        let pattern = pattern?;
        let parts = patterns(&pattern).map_err(|problem| section.problem(Some("pattern"), problem)).ok();
        let ignored: Result<Vec<_>, _> = ignore.iter().map(|pattern| one(pattern)).collect();
        let ignored = ignored.map_err(|problem| section.problem(Some("ignore"), problem)).ok();
        // "*.part" says as well that what is before the dot is being written.
        let is_ending = |ending: &&str| ending.len() > 1 && !ending.contains(['*', '?', '[']);
        let partial = ignore.iter().filter_map(|pattern| pattern.strip_prefix('*')).filter(is_ending);
        Some(Self {
            pattern: parts?,
            prefix: pattern.split(['*', '?', '[']).next().unwrap_or_default().to_owned(),
            ignore: ignored?,
            partial: partial.map(str::to_owned).collect(),
            complete,
            started,
            manifest,
            settle: settle.unwrap_or(SETTLE).as_secs_f64(),
        })
    }

    /// What the names of all that matters begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a file of that name matters at all.
    pub fn is_relevant(&self, name: &str) -> bool {
        self.role(name).is_some()
    }

    /// Whether there may be something in the folder of that name that matters.
    pub fn leads(&self, folder: &str) -> bool {
        let levels = folder.split('/').count();
        if levels < self.pattern.len() {
            return folder.split('/').zip(&self.pattern).all(|(part, pattern)| pattern.matches_with(part, CASE))
                && !self.is_ignored(folder);
        }
        let (base, _) = self.base(folder);
        self.is_backup(base) || self.unwritten(base).is_some()
    }

    /// The name of a backup's manifest.
    pub fn manifest_of(&self, backup: &str) -> String {
        format!("{backup}{}", self.manifest.as_deref().unwrap_or_default())
    }

    /// The backup that a file belongs to, and what it is to it. The backup's name is the beginning of the file's.
    fn role<'n>(&self, name: &'n str) -> Option<(&'n str, Role)> {
        let companions =
            [(&self.complete, Role::Complete), (&self.started, Role::Started), (&self.manifest, Role::Manifest)];
        for (suffix, role) in companions {
            let of = suffix.as_deref().and_then(|suffix| name.strip_suffix(suffix));
            if let Some(of) = of.filter(|of| self.is_backup(of)) {
                return Some((of, role));
            }
        }
        let (base, within) = self.base(name);
        // A bucket may have an object that stands for the folder itself.
        if within == Some("") {
            return None;
        }
        if let Some(of) = self.unwritten(base) {
            return Some((of, Role::Partial));
        }
        self.is_backup(base).then_some((base, Role::Data))
    }

    /// As much of the name as can be a backup's, and what follows it within its folder.
    fn base<'n>(&self, name: &'n str) -> (&'n str, Option<&'n str>) {
        match name.match_indices('/').nth(self.pattern.len() - 1) {
            Some((at, _)) => (&name[..at], Some(&name[at + 1..])),
            None => (name, None),
        }
    }

    fn is_backup(&self, name: &str) -> bool {
        let mut parts = name.split('/');
        let matches =
            self.pattern.iter().all(|pattern| parts.next().is_some_and(|part| pattern.matches_with(part, CASE)));
        matches && parts.next().is_none() && !self.is_ignored(name)
    }

    fn is_ignored(&self, name: &str) -> bool {
        name.split('/').any(|part| self.ignore.iter().any(|pattern| pattern.matches_with(part, CASE)))
    }

    /// The backup that the name is a partial one of.
    fn unwritten<'n>(&self, name: &'n str) -> Option<&'n str> {
        let mut of = self.partial.iter().filter_map(|ending| name.strip_suffix(ending.as_str()));
        of.find(|of| self.is_backup(of))
    }
}

/// What a marker's name has after the backup's.
fn suffix(template: &str) -> Result<&str, String> {
    let Some(suffix) = template.strip_prefix(NAME).filter(|suffix| !suffix.is_empty()) else {
        return Err(format!("must be \"{NAME}\" and more, such as \"{NAME}.done\" or \"{NAME}/_SUCCESS\""));
    };
    let rest = suffix.strip_prefix('/').unwrap_or(suffix);
    let is_path = rest.split('/').all(is_name) && !suffix.contains('{');
    // Beside the backup or within it: elsewhere nobody looks.
    let is_near = suffix.starts_with('/') || !suffix.contains('/');
    if is_path && is_near { Ok(suffix) } else { Err("must name a file beside the backup, or within it".to_owned()) }
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains('\0')
}

fn patterns(pattern: &str) -> Result<Vec<Pattern>, String> {
    if !pattern.split('/').all(is_name) {
        return Err("`pattern`: must be a relative path, such as \"orders-*.tar.gz\" or \"*/base.tar\"".to_owned());
    }
    pattern.split('/').map(one).collect()
}

fn one(pattern: &str) -> Result<Pattern, String> {
    if pattern.contains('/') || pattern.contains("**") {
        return Err("a pattern is for one name: it has no `/` here, and no `**` anywhere".to_owned());
    }
    Pattern::new(pattern).map_err(|error| format!("not a pattern: {}", error.msg))
}

#[cfg(test)]
mod tests;
