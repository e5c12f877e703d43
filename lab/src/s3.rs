//! A real S3 server, versitygw, over a folder of this machine: a bucket is a folder in it, an object a file. It checks signatures,
//! regions and clocks as S3 does. Objects are put by curl, which signs by itself.

pub mod fake;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::process::Command;

use crate::certificates::{Authority, SERVER_NAMES};
use crate::ports::Port;
use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, binary, until};

/// Names the key that may do everything.
pub const ACCESS_KEY_ID: &str = "AKIALABLABLABLABLAB1";
/// The key.
pub const SECRET_ACCESS_KEY: &str = "lab/secret+access/key";
/// The region that it is in.
pub const REGION: &str = "eu-north-1";

/// A running server. Killed on drop.
#[derive(Debug)]
pub struct S3 {
    // Before the folder: the server first, then its objects.
    server: Option<Server>,
    launch: Launch,
    port: Port,
    ca: Option<PathBuf>,
    folder: Scratch,
}

impl S3 {
    /// Starts one without any bucket. It also answers to `BUCKET.localhost`.
    pub async fn start() -> Result<S3> {
        S3::with(Scratch::new()?, None).await
    }

    /// The same over TLS, with a certificate of an authority of its own.
    pub async fn start_tls() -> Result<S3> {
        let folder = Scratch::new()?;
        let authority = Authority::new(folder.path(), "s3-ca")?;
        S3::with(folder, Some(&authority)).await
    }

    async fn with(folder: Scratch, authority: Option<&Authority>) -> Result<S3> {
        let port = Port::pick()?;
        let objects = folder.path().join("buckets");
        fs::create_dir(&objects).map_err(Error::io(objects.display().to_string()))?;
        let mut launch = Launch::new("versitygw", binary::VERSITYGW.find()?)
            .args(["--port", &port.address(), "--region", REGION, "--keep-alive", "--quiet"])
            .args(["--virtual-domain", &format!("localhost:{}", port.number())])
            .env("ROOT_ACCESS_KEY", ACCESS_KEY_ID)
            .env("ROOT_SECRET_KEY", SECRET_ACCESS_KEY)
            .log(folder.path().join("versitygw.log"));
        if let Some(authority) = authority {
            let identity = authority.issue("s3", "server", &SERVER_NAMES, time::Duration::days(1))?;
            let options: [OsString; 4] =
                ["--cert".into(), identity.certificate.into(), "--key".into(), identity.key.into()];
            launch = launch.args(options);
        }
        let launch = launch.arg("posix").arg(objects);
        let ca = authority.map(|authority| authority.certificate().to_owned());
        let mut server = S3 { server: None, launch, port, ca, folder };
        server.up().await?;
        Ok(server)
    }

    /// Starts it again, on the same port and with the same objects.
    pub async fn up(&mut self) -> Result<()> {
        let server = self.launch.start()?;
        until("versitygw to answer", Duration::from_secs(30), async || {
            if let Err(error) = server.check_alive() {
                return Ok(Err(error));
            }
            self.curl(&["--output", "/dev/null"], "").await.map(Ok).map_err(|error| error.to_string())
        })
        .await??;
        self.server = Some(server);
        Ok(())
    }

    /// Kills it.
    pub fn down(&mut self) {
        self.server = None;
    }

    /// `http://127.0.0.1:port`, or `https`.
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.port.address())
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The authority of its certificate.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Makes a bucket.
    pub async fn make_bucket(&self, bucket: &str) -> Result<()> {
        self.curl(&["--request", "PUT"], bucket).await.map(drop)
    }

    /// Puts an object.
    pub async fn put(&self, bucket: &str, key: &str, content: &str) -> Result<()> {
        let file = self.folder.path().join("content");
        fs::write(&file, content).map_err(Error::io(file.display().to_string()))?;
        self.curl(&["--upload-file", &file.display().to_string()], &format!("{bucket}/{key}")).await.map(drop)
    }

    /// Puts many small objects, with one call of curl.
    pub async fn put_all(&self, bucket: &str, keys: &[String]) -> Result<()> {
        let (content, list) = (self.folder.path().join("content"), self.folder.path().join("list"));
        fs::write(&content, "x").map_err(Error::io(content.display().to_string()))?;
        let (last, others) = keys.split_last().ok_or_else(|| Error::Unexpected("no objects to put".to_owned()))?;
        let lines: String = others
            .iter()
            .map(|key| format!("upload-file = {:?}\nurl = \"{}/{bucket}/{key}\"\n", content, self.url()))
            .collect();
        fs::write(&list, lines).map_err(Error::io(list.display().to_string()))?;
        let (list, content) = (list.display().to_string(), content.display().to_string());
        self.curl(&["--config", &list, "--upload-file", &content], &format!("{bucket}/{last}")).await.map(drop)
    }

    /// Removes an object.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        self.curl(&["--request", "DELETE"], &format!("{bucket}/{key}")).await.map(drop)
    }

    /// Makes an object that old, as far as the server tells.
    pub fn age(&self, bucket: &str, key: &str, age: Duration) -> Result<()> {
        let file = self.folder.path().join("buckets").join(bucket).join(key);
        let then = SystemTime::now() - age;
        let set = fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(then));
        set.map_err(Error::io(file.display().to_string()))
    }

    /// One request of curl's, which must succeed. `path` is escaped by whoever calls.
    async fn curl(&self, arguments: &[&str], path: &str) -> Result<String> {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "30", "--globoff", "--noproxy", "*"])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3")])
            .args(["--user", &format!("{ACCESS_KEY_ID}:{SECRET_ACCESS_KEY}")])
            .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
            .args(arguments)
            .arg(format!("{}/{path}", self.url()))
            .kill_on_drop(true);
        if let Some(ca) = &self.ca {
            command.arg("--cacert").arg(ca);
        }
        let output = command.output().await.map_err(Error::io("running curl"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(Error::Unexpected(format!("curl {path}: {} {}", text(&output.stderr), text(&output.stdout))))
    }
}
