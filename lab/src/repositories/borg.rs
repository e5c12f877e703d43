use std::fs::{DirEntry, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{command, run, write_data};
use crate::binary::BORG;
use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, until};

/// A Borg repository in a folder, with files to back up.
#[derive(Debug)]
pub struct Borg {
    folder: Scratch,
    passphrase: String,
}

/// An archive that is being made. Borg is killed if this is dropped, and ends if the lab's process is killed: then its pipe does.
#[derive(Debug)]
pub struct Going {
    borg: Option<Child>,
    _pipe: File,
}

impl Going {
    /// Ends the pipe, and waits until the archive has been made. Whatever Borg has to say is an error.
    pub fn end(mut self) -> Result<()> {
        let borg = self.borg.take();
        drop(self);
        let Some(borg) = borg else { return Ok(()) };
        let done = borg.wait_with_output().map_err(Error::io("waiting for Borg"))?;
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() { Ok(()) } else { Err(Error::Unexpected(format!("borg: {}: {said}", done.status))) }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if let Some(borg) = &mut self.borg {
            // It may have ended.
            let _ = borg.kill();
            let _ = borg.wait();
        }
    }
}

impl Borg {
    /// Makes an empty repository, encrypted with a key in it.
    pub fn create(passphrase: &str) -> Result<Borg> {
        let borg = Borg { folder: Scratch::new()?, passphrase: passphrase.to_owned() };
        run(borg.command()?.args(["init", "--encryption=repokey-blake2"]))?;
        Ok(borg)
    }

    /// The home of whoever makes the backups.
    pub fn home(&self) -> &Path {
        self.folder.path()
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

    /// Begins to make an archive of what comes out of a pipe, and waits until it is read. The archive has a comment of 100 kB, which
    /// all that is said of it repeats.
    pub async fn begin(&self, archive: &str) -> Result<Going> {
        let path = self.folder.path().join(archive);
        run(Command::new("mkfifo").arg(&path))?;
        // Without waiting for anybody to read.
        let pipe = File::options().read(true).write(true).open(&path).map_err(Error::io("opening a pipe"))?;
        let mut command = self.command()?;
        command
            .args(["create", "--read-special", "--comment", &"x".repeat(100_000), &format!("::{archive}")])
            .arg(&path);
        let borg = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(Error::io("starting Borg"))?;
        let files = PathBuf::from(format!("/proc/{}/fd", borg.id()));
        let going = Going { borg: Some(borg), _pipe: pipe };
        until("Borg to read a pipe", Duration::from_secs(60), async || {
            let mut open = std::fs::read_dir(&files).map_err(|error| error.to_string())?.flatten();
            let is_it = |file: DirEntry| std::fs::read_link(file.path()).is_ok_and(|file| file == path);
            if open.any(is_it) { Ok(()) } else { Err("it has not opened it".to_owned()) }
        })
        .await?;
        Ok(going)
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
