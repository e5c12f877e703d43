//! Tells of a run, beside it: whatever becomes of the telling, the command notices nothing of it.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::child::Relay;
use super::place::{Door, NotTaken, Place, Wanted};
use super::size;
use crate::probe::backup::spool::{self, Record};
use crate::probe::backup::told::{Told, What};

/// So long one message may take.
const MESSAGE: Duration = Duration::from_secs(3);
/// For so long the end is told again and again where no daemon takes it from the spool.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two attempts: doubled each time, up to a minute.
const PAUSE: Duration = Duration::from_millis(500);
/// See [`PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So long the exit waits for all of it, also if a file system hangs.
const LONGEST: Duration = Duration::from_secs(10);
/// So many records of earlier runs are told along with a run.
const BACKLOG: usize = 20;

/// Why nobody is told over HTTP who could not be.
const NO_DOOR: &str = "no address and token are known";

/// How a run ended.
pub(super) struct Over {
    /// All that is known at once.
    pub(super) told: Told,
    /// Whose size it is to have.
    pub(super) size_of: Vec<PathBuf>,
}

/// A thread that tells of a run.
pub(super) struct Teller {
    end: oneshot::Sender<Over>,
    done: mpsc::Receiver<()>,
}

impl Teller {
    /// Begins with telling that the run began.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn start(wanted: Wanted, began: Told, relay: Option<Arc<Relay>>) -> std::io::Result<Self> {
        let (end, ended) = oneshot::channel();
        let (finish, done) = mpsc::channel();
        thread::Builder::new().name("teller".to_owned()).spawn(move || {
            tell(&wanted, began, ended, relay.as_deref());
            // Nobody waits for it any more if this came too late.
            let _ = finish.send(());
        })?;
        Ok(Self { end, done })
    }

    /// Tells how the run ended, and returns when that is done, or has taken too long.
    pub(super) fn finish(self, over: Over) {
        let longest = if over.size_of.is_empty() { LONGEST } else { LONGEST + size::PATIENCE };
        let is_done = self.end.send(over).is_ok() && self.done.recv_timeout(longest).is_ok();
        if !is_done {
            tracing::warn!("nobody could be told of this run in time");
        }
    }
}

fn tell(wanted: &Wanted, began: Told, ended: oneshot::Receiver<Over>, relay: Option<&Relay>) {
    let place = Place::find(wanted);
    for doubt in &place.doubts {
        tracing::warn!("{doubt}");
    }
    let node = place.node.clone();
    let complete = |told: Told| Told { node: told.node.or_else(|| node.clone()), ..told };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // The record needs none.
            if let Ok(Over { told, .. }) = ended.blocking_recv() {
                let left = leave(&place, &wanted.job, &complete(told));
                report(&left, Err(&format!("no runtime: {error}")));
            }
            return;
        }
    };
    runtime.block_on(async {
        let began = complete(began);
        let over = tokio::select! {
            biased;
            over = ended => over,
            never = start(place.door.as_ref(), &began) => match never {},
        };
        if let Ok(Over { told, size_of }) = over {
            end(&place, &wanted.job, (complete(told), size::of_all(size_of)), relay).await;
        }
    });
    // A name server that hangs is not waited for.
    runtime.shutdown_background();
}

/// Tells that the run began, until it is taken or cannot be; then waits for ever.
async fn start(door: Option<&Door>, told: &Told) -> std::convert::Infallible {
    if let Some(door) = door {
        let mut pause = PAUSE;
        while attempt(door, told).await.is_err_and(|not| not.is_passing) {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    std::future::pending().await
}

async fn attempt(door: &Door, told: &Told) -> Result<(), NotTaken> {
    let late = |_| NotTaken { why: "there was no answer in time".to_owned(), is_passing: true };
    timeout(MESSAGE, door.tell(told)).await.map_err(late)?
}

/// Tells how the run ended. The record is there first: whatever ends this process afterwards, the run is not lost. Once the size is
/// known, another record takes its place; if a daemon has taken the first one by then, it completes it.
async fn end(place: &Place, job: &str, over: (Told, impl Future<Output = Option<u64>>), relay: Option<&Relay>) {
    let (mut told, size) = over;
    let mut left = leave(place, job, &told);
    let hurry = async {
        match relay {
            Some(relay) => relay.hurry.notified().await,
            None => std::future::pending().await,
        }
    };
    let telling = async {
        if let Some(size) = size.await {
            told.size = Some(size);
            left = leave(place, job, &told).or(left.clone());
        }
        insist(place, &told, left.is_ok()).await
    };
    let taken = tokio::select! {
        biased;
        taken = telling => taken,
        () = hurry => Err("somebody wanted this to end".to_owned()),
    };
    if let (Ok(()), Ok(file)) = (&taken, &left) {
        // One that stays is entered a second time, which changes nothing.
        let _ = spool::remove(file);
        backlog(place, job).await;
    }
    report(&left, taken.as_ref().copied().map_err(String::as_str));
}

/// Tells it until it is taken, or cannot be, or time is up. One attempt is enough where a daemon takes the record by itself.
async fn insist(place: &Place, told: &Told, is_left: bool) -> Result<(), String> {
    let Some(door) = &place.door else { return Err(NO_DOOR.to_owned()) };
    let ends = Instant::now() + PATIENCE;
    let mut pause = PAUSE;
    loop {
        let late = |_| NotTaken { why: "there was no answer in time".to_owned(), is_passing: false };
        let not = match timeout_at(ends, attempt(door, told)).await.map_err(late).flatten() {
            Ok(()) => return Ok(()),
            Err(not) => not,
        };
        if !not.is_passing || is_left && place.is_taken || Instant::now() + pause >= ends {
            return Err(not.why);
        }
        sleep(pause).await;
        pause *= 2;
    }
}

/// Leaves a record.
fn leave(place: &Place, job: &str, told: &Told) -> Result<PathBuf, String> {
    let Some(dir) = &place.spool else { return Err("there is no state directory".to_owned()) };
    let record = Record { job: job.to_owned(), told: told.clone() };
    let made = spool::make(dir).and_then(|()| spool::leave(dir, &record));
    made.map_err(|error| format!("{}: {error}", dir.display()))
}

/// Tells of earlier runs of the job that could not be told then, where no daemon takes their records by itself.
async fn backlog(place: &Place, job: &str) {
    let (Some(dir), Some(door), false) = (&place.spool, &place.door, place.is_taken) else { return };
    let found = spool::look(dir, job).unwrap_or_default();
    for waiting in found.waiting.into_iter().take(BACKLOG).filter(|waiting| waiting.told.what != What::Log) {
        if attempt(door, &waiting.told).await.is_err() || waiting.remove().is_err() {
            return;
        }
    }
}

/// Says what a person should know of the telling.
fn report(left: &Result<PathBuf, String>, taken: Result<(), &str>) {
    match (left, taken) {
        (_, Ok(())) => {}
        // A job without a token goes this way only.
        (Ok(_), Err(NO_DOOR)) => {}
        (Ok(file), Err(why)) => {
            tracing::warn!("the daemon was not told of this run ({why}); the record is left in {}", file.display());
        }
        (Err(not_left), Err(why)) => {
            tracing::error!(
                "nobody knows of this run: the daemon was not told ({why}), and no record could be left ({not_left})"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_record_is_there_before_the_size_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("spool");
        let place = Place { spool: Some(dir.clone()), is_taken: true, ..Place::default() };
        let rid = "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned();
        let told = Told { rid, what: What::Success, ended: Some(1000.0), ..Told::default() };
        let sizes = || -> Vec<_> {
            spool::look(&dir, "nightly").unwrap().waiting.iter().map(|record| record.told.size).collect()
        };
        let size = async {
            assert_eq!(sizes(), [None]);
            Some(7)
        };
        end(&place, "nightly", (told.clone(), size), None).await;
        assert_eq!(sizes(), [Some(7)]);
        // Somebody who wants this to end does not wait for it, and the record stays.
        let relay = Relay::default();
        relay.hurry.notify_one();
        end(&place, "nightly", (told, std::future::pending()), Some(&relay)).await;
        assert_eq!(sizes(), [None]);
    }
}
