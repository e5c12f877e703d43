//! Last good versions of included files, kept in the state directory for the next start.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::settings::{Files, MAX_CONFIG_BYTES};

/// The folder of last good versions.
pub(super) struct Saved {
    dir: PathBuf,
}

impl Saved {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("last-good") }
    }

    /// The last good version of a file, if there is one that can be read.
    pub(super) fn get(&self, file: &Path) -> Option<String> {
        let content = Files::new(false).read(&self.dir.join(name(file)), MAX_CONFIG_BYTES).ok()?;
        String::from_utf8(content.bytes().to_vec()).ok()
    }

    /// Keeps the version of a file. What is there already is not written again.
    pub(super) fn put(&self, file: &Path, text: &str) -> io::Result<()> {
        if self.get(file).as_deref() == Some(text) {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let target = self.dir.join(name(file));
        let temporary = target.with_extension("tmp");
        // Left over from a crash; opened anew below so that its mode is ours.
        let _ = fs::remove_file(&temporary);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Forgets the files that are no longer included.
    pub(super) fn retain<'f>(&self, files: impl Iterator<Item = &'f Path>) -> io::Result<()> {
        let keep: BTreeSet<_> = files.map(name).collect();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(".toml") && !keep.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A file name for a path of any length: its hash.
fn name(file: &Path) -> String {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let hash = Sha256::digest(absolute.as_os_str().as_encoded_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.toml")
}
