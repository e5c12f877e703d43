//! What can go wrong in the lab.

use std::path::Path;
use std::{fs, io};

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the lab could not do what it was asked to. The texts are for the person whose test failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server's program is not on this machine.
    #[error(
        "{program} is missing: not named by ${variable}, not in PATH, not at {cached}. Run `make setup`, which installs it"
    )]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The environment variable that may name it.
        variable: &'static str,
        /// Where `make setup` would have put it.
        cached: String,
    },
    /// A library that tests need is not on this machine.
    #[error(
        "{file} is not at {path}, and ${variable} names no other place. `make setup` is not enough for tests: run `scripts/setup.sh test`, as `make test` does"
    )]
    MissingLibrary {
        /// Its file.
        file: &'static str,
        /// The environment variable that may name it.
        variable: &'static str,
        /// Where it was looked for.
        path: String,
    },
    /// The environment names a program that is not there.
    #[error("${variable} names {path}, which is not an executable file")]
    NotExecutable {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        path: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// A port is in use by somebody else.
    #[error("port {0} is already in use: is another demo running?")]
    PortTaken(u16),
    /// A server ended by itself.
    #[error("{name} ended by itself ({status}){output}")]
    Ended {
        /// Which server.
        name: String,
        /// How.
        status: String,
        /// The last lines of its log, if it has one.
        output: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}; last seen: {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// The last state or error seen.
        last: String,
    },
    /// A server answered something unexpected, or the lab was asked for something that its servers are not.
    #[error("{0}")]
    Unexpected(String),
    /// A MongoDB command failed.
    #[error("MongoDB: {0}")]
    MongoDb(#[from] Box<mongodb::error::Error>),
    /// A Kafka client failed.
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

impl From<mongodb::error::Error> for Error {
    fn from(error: mongodb::error::Error) -> Error {
        Error::MongoDb(Box::new(error))
    }
}

impl Error {
    /// For `map_err`: adds to an I/O error what was attempted.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// A server that ended by itself, with the last lines it wrote.
    pub(crate) fn ended(name: &str, status: Option<i32>, log: Option<&Path>) -> Error {
        const LINES: usize = 12;
        let text = log.and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let output =
            if last.is_empty() { String::new() } else { format!("; the end of its output:\n{}", last.join("\n")) };
        let status = status.map_or_else(|| "killed by a signal".to_owned(), |status| format!("exit status {status}"));
        Error::Ended { name: name.to_owned(), status, output }
    }
}
