//! Kafka's programs in a Java virtual machine: its server, and its own tools.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::options::Version;
use crate::process::Launch;
use crate::{Error, Result, binary};

/// A tool that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Small heaps, and nothing that pays off only in hours: several clusters may run at once on a machine with two CPUs.
const FLAGS: [&str; 7] = [
    "-Xms48m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// A Java virtual machine with the jars of a Kafka.
#[derive(Debug)]
pub(super) struct Java {
    program: PathBuf,
    jars: PathBuf,
}

impl Java {
    pub(super) fn find(version: Version) -> Result<Java> {
        Ok(Java { program: binary::JAVA.find()?, jars: version.library().find()?.join("libs/*") })
    }

    /// What starts a server with a heap of so many MiB; the class and its arguments are still to be added.
    pub(super) fn server(&self, name: String, heap: u32) -> Launch {
        Launch::new(name, &self.program).args(FLAGS).arg(format!("-Xmx{heap}m")).arg("-cp").arg(&self.jars)
    }

    /// Runs a tool to its end and gives what it prints. An error if it says that it failed.
    pub(super) async fn run<S: AsRef<str>>(&self, class: &str, arguments: &[S]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(FLAGS).arg("-Xmx128m").arg("-cp").arg(&self.jars).arg(class);
        command.args(arguments.iter().map(AsRef::as_ref));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let late = |_| Error::Late { what: class.to_owned(), seconds: PATIENCE.as_secs(), last: "running".to_owned() };
        let output = timeout(PATIENCE, command.output()).await.map_err(late)?.map_err(Error::io(class))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(Error::Unexpected(format!("{class}: {}: {}{errors}", output.status, text)))
    }
}
