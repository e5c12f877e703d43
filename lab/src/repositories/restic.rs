use std::path::{Path, PathBuf};
use std::process::Command;

use super::{command, run, write_data};
use crate::binary::RESTIC;
use crate::process::Scratch;
use crate::{Error, Result};

/// A restic repository in a folder, with files to back up.
#[derive(Debug)]
pub struct Restic {
    folder: Scratch,
    password: String,
}

impl Restic {
    /// Makes an empty repository.
    pub fn create(password: &str) -> Result<Restic> {
        let restic = Restic { folder: Scratch::new()?, password: password.to_owned() };
        run(restic.command()?.arg("init"))?;
        Ok(restic)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Writes another `bytes` bytes and backs up all there are. The id of the snapshot, short.
    pub fn backup(&self, host: &str, seed: u64, bytes: usize) -> Result<String> {
        let data = self.folder.path().join("data");
        write_data(&data, seed, bytes)?;
        let said = run(self.command()?.args(["backup", "--host", host]).arg(&data))?;
        let id =
            said.lines().find_map(|line| line.strip_prefix("snapshot ")?.strip_suffix(" saved").map(str::to_owned));
        id.ok_or_else(|| Error::Unexpected(format!("restic saved no snapshot: {said}")))
    }

    /// Tags a snapshot, which gives it another id.
    pub fn tag(&self, id: &str, tag: &str) -> Result<()> {
        run(self.command()?.args(["tag", "--add", tag, id])).map(drop)
    }

    /// Forgets a snapshot and prunes what only it needed.
    pub fn forget(&self, id: &str) -> Result<()> {
        run(self.command()?.args(["forget", "--prune", id])).map(drop)
    }

    /// How many files the locks of the repository are.
    pub fn locks(&self) -> Result<usize> {
        let locks = std::fs::read_dir(self.path().join("locks")).map_err(Error::io("reading the locks"))?;
        Ok(locks.count())
    }

    /// The size of all its packs, in bytes: what restic calls raw data, and a header in each.
    pub fn packs(&self) -> Result<u64> {
        fn size(folder: &Path) -> std::io::Result<u64> {
            std::fs::read_dir(folder)?
                .map(|entry| {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() { size(&entry.path()) } else { Ok(entry.metadata()?.len()) }
                })
                .sum()
        }
        size(&self.path().join("data")).map_err(Error::io("reading the packs"))
    }

    fn command(&self) -> Result<Command> {
        let mut command = command(RESTIC, self.folder.path())?;
        command.env("RESTIC_REPOSITORY", self.path()).env("RESTIC_PASSWORD", &self.password);
        Ok(command)
    }
}
