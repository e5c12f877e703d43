//! An archive of the classes that a broker loads, ready for use (application class data sharing, JEP 310 and 350). It halves what the
//! start of a broker takes, and every tool's too.
//!
//! It fits one Java virtual machine and one set of jars, so it cannot be downloaded: the first cluster on a machine makes it, beside
//! the jars. A virtual machine that finds an archive of another one goes on without.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;

use super::access::{Files, Tls};
use super::broker::Ports;
use super::java::Java;
use super::options::Options;
use super::properties;
use crate::process::{Scratch, Server};
use crate::{Error, Result, until};

/// Makes the archive, unless it is there, or somebody else makes it now, or the jars are where nobody may write.
pub(super) async fn prepare(java: &Java) {
    if java.archive().exists() {
        return;
    }
    let lock = File::options().create(true).truncate(false).write(true).open(java.archive().with_extension("lock"));
    let Ok(lock) = lock else { return };
    if lock.try_lock().is_err() || java.archive().exists() {
        return;
    }
    let part = java.archive().with_extension("part");
    if make(java, &part).await.is_err() {
        // Java takes an empty archive for none. Without it every cluster would try again, and take the longer for it.
        let _ = fs::write(&part, "");
    }
    // Whoever looks sees a whole archive or none.
    let _ = fs::rename(&part, java.archive());
}

/// Runs a broker that does all that brokers of the lab do when they start, and stops it: it writes the archive then.
async fn make(java: &Java, part: &Path) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let folder = Scratch::new()?;
    let files = Files::new(folder.path())?;
    let options = Options::default().brokers(1).sasl().tls(Tls::Server);
    let ports = [Ports::pick(None)?];
    let file = folder.path().join("archive.properties");
    fs::write(&file, properties::of(0, &ports, &options, &files, folder.path()))
        .map_err(Error::io(file.display().to_string()))?;
    java.format(&file, options.access).await?;
    let broker = java.recorder(part).arg("kafka.Kafka").arg(file).log(folder.path().join("archive.log")).start()?;
    until("a broker to record", PATIENCE, async || {
        if let Err(error) = broker.check_alive() {
            return Ok(Err(error));
        }
        let connected = TcpStream::connect(ports[0].client.address()).await;
        connected.map(|_| Ok(())).map_err(|error| error.to_string())
    })
    .await??;
    broker.terminate()?;
    until("the archive", PATIENCE, async || match Server::check_alive(&broker) {
        Ok(()) => Err("the broker still runs".to_owned()),
        Err(_) => Ok(()),
    })
    .await?;
    fs::metadata(part).map(drop).map_err(Error::io(part.display().to_string()))
}
