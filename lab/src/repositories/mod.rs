//! Backup repositories by the real tools: restic, Borg, and pgBackRest with a PostgreSQL of its own.
//!
//! What is true of a repository is asked of the tool's own output for people, not of the listings that midwatch reads.

mod borg;
mod pgbackrest;
mod restic;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

pub use borg::Borg;
pub use pgbackrest::PgBackRest;
pub use restic::Restic;

use crate::binary::Program;
use crate::{Error, Result};

/// Runs a tool to its end: what it printed.
fn run(command: &mut Command) -> Result<String> {
    let what = || command.get_program().to_string_lossy().into_owned();
    let name = what();
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("starting {name}")))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(Error::Unexpected(format!("{name}: {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &said)
}

/// A command with nothing of the environment but where programs are, and with its files in `folder`.
fn command(program: Program, folder: &Path) -> Result<Command> {
    Ok(bare(program.find()?.as_os_str(), folder))
}

fn bare(program: &OsStr, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", folder).env("LC_ALL", "C").env("TZ", "UTC");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    command.current_dir(folder);
    command
}

/// Writes files of that many bytes in all, which no compression makes smaller: what a backup is made of.
fn write_data(folder: &Path, seed: u64, bytes: usize) -> Result<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data: Vec<u8> = (0..bytes)
        .map(|_| {
            // Xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect();
    std::fs::create_dir_all(folder).map_err(Error::io("making a folder"))?;
    std::fs::write(folder.join(format!("data-{seed}")), data).map_err(Error::io("writing a file"))
}
