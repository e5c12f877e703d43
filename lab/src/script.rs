//! Programs that a test makes up.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// Writes a shell script that can be run.
///
/// Another process writes it: while this one had it open, any other thread might start a child, which had it open as well until it was
/// another program, and nobody could run it so long (`ETXTBSY`).
pub fn script(path: &Path, text: &str) -> Result<()> {
    let failed = || Error::io(format!("writing {}", path.display()));
    let mut writer = Command::new("/bin/sh");
    writer.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = writer.spawn().map_err(failed())?;
    if let Some(mut input) = writer.stdin.take() {
        writeln!(input, "#!/bin/sh\n{text}").map_err(failed())?;
    }
    let done = writer.wait().map_err(failed())?;
    if done.success() { Ok(()) } else { Err(Error::Unexpected(format!("cannot write {}: {done}", path.display()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_be_run_while_others_start_programs() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let folder = folder.path();
                scope.spawn(move || {
                    for n in 0..25 {
                        let path = folder.join(format!("{thread}-{n}"));
                        script(&path, "echo \"$1\"").unwrap();
                        let output = Command::new(&path).arg("said").output().unwrap();
                        assert_eq!(output.stdout, b"said\n");
                    }
                });
            }
        });
        assert!(script(&folder.path().join("no/such/folder"), "").is_err());
    }
}
