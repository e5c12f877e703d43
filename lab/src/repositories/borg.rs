use std::path::PathBuf;
use std::process::Command;

use super::{command, run, write_data};
use crate::Result;
use crate::binary::BORG;
use crate::process::{Launch, Scratch, Server};

/// A Borg repository in a folder, with files to back up.
#[derive(Debug)]
pub struct Borg {
    folder: Scratch,
    passphrase: String,
}

impl Borg {
    /// Makes an empty repository, encrypted with a key in it.
    pub fn create(passphrase: &str) -> Result<Borg> {
        let borg = Borg { folder: Scratch::new()?, passphrase: passphrase.to_owned() };
        run(borg.command()?.args(["init", "--encryption=repokey-blake2"]))?;
        Ok(borg)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Writes another `bytes` bytes and makes an archive of all there are.
    pub fn backup(&self, archive: &str, seed: u64, bytes: usize) -> Result<()> {
        let data = self.folder.path().join("data");
        write_data(&data, seed, bytes)?;
        run(self.command()?.args(["create", &format!("::{archive}")]).arg(&data)).map(drop)
    }

    /// Deletes an archive.
    pub fn delete(&self, archive: &str) -> Result<()> {
        run(self.command()?.args(["delete", &format!("::{archive}")])).map(drop)
    }

    /// What `borg info` says of an archive, for people.
    pub fn info(&self, archive: &str) -> Result<String> {
        run(self.command()?.args(["info", &format!("::{archive}")]))
    }

    /// Holds the repository's lock until it is dropped, as a backup would.
    pub fn hold(&self) -> Result<Server> {
        let command = self.command()?;
        let environment = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let launch = environment
            .fold(Launch::new("borg", command.get_program()), |launch, (name, value)| launch.env(name, value));
        launch.args(["with-lock".into(), self.path().into_os_string(), "sleep".into(), "600".into()]).start()
    }

    /// Whether somebody has locked the repository.
    pub fn is_locked(&self) -> bool {
        self.path().join("lock.exclusive").exists()
    }

    fn command(&self) -> Result<Command> {
        let mut command = command(BORG, self.folder.path())?;
        command.env("BORG_REPO", self.path()).env("BORG_PASSPHRASE", &self.passphrase);
        Ok(command)
    }
}
