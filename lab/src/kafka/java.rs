//! Kafka's programs in a Java virtual machine: its server, and its own tools.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::access::Access;
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

/// Any 16 bytes in base64.
const CLUSTER_ID: &str = "bWlkd2F0Y2gtbGFiLTAwMQ";

/// A Java virtual machine with the jars of a Kafka.
#[derive(Debug)]
pub(super) struct Java {
    program: PathBuf,
    jars: PathBuf,
    archive: PathBuf,
}

impl Java {
    pub(super) fn find(version: Version) -> Result<Java> {
        let home = version.library().find()?;
        Ok(Java { program: binary::JAVA.find()?, jars: home.join("libs/*"), archive: home.join("lab.jsa") })
    }

    /// Where the archive of classes is, or would be: see [`super::archive`].
    pub(super) fn archive(&self) -> &Path {
        &self.archive
    }

    /// What starts a server with a heap of so many MiB; the class and its arguments are still to be added.
    pub(super) fn server(&self, name: String, heap: u32) -> Launch {
        Launch::new(name, &self.program).args(self.flags(heap))
    }

    /// What starts a server that writes an archive of its classes when it ends.
    pub(super) fn recorder(&self, archive: &Path) -> Launch {
        let mut flags = self.flags(256);
        flags[0] = "-XX:ArchiveClassesAtExit=".into();
        flags[0].push(archive);
        Launch::new("recorder of classes", &self.program).args(flags)
    }

    /// Formats a broker's folders.
    pub(super) async fn format(&self, properties: &Path, access: Access) -> Result<()> {
        let file = properties.display().to_string();
        let mut arguments = ["format", "-t", CLUSTER_ID, "-c", &file].map(str::to_owned).to_vec();
        arguments.extend(access.format_arguments());
        self.run("kafka.tools.StorageTool", &arguments).await.map(drop)
    }

    /// What comes before the class. First of all which archive to use, which need not exist.
    fn flags(&self, heap: u32) -> Vec<OsString> {
        let mut archive = OsString::from("-XX:SharedArchiveFile=");
        archive.push(&self.archive);
        let mut flags = vec![archive, format!("-Xmx{heap}m").into()];
        flags.extend(FLAGS.map(OsString::from));
        flags.extend(["-cp".into(), self.jars.clone().into()]);
        flags
    }

    /// Runs a tool to its end and gives what it prints. An error if it says that it failed.
    pub(super) async fn run<S: AsRef<str>>(&self, class: &str, arguments: &[S]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(self.flags(128)).arg(class);
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
