//! The reader of what the API server tells, for the fuzz target.

use kube::core::WatchEvent;
use kube::runtime::watcher::Event;

use super::objects::{CronJob, Job, Object, Pod};
use super::shelf::{Part, Shelf, Told};
use super::{Choice, Config, Nodes};

/// Reads lines of a watch, each as what it can be. Whether they tell of a run, or of a CronJob.
pub fn watch(bytes: &[u8]) -> bool {
    let config = Config {
        namespace: None,
        choice: Choice::CronJob("nightly".to_owned()),
        nodes: Nodes::Mapped { names: vec![("node-a".to_owned(), "mongo-1:27017".to_owned())], others: true },
        kubeconfig: None,
        context: None,
    };
    let shelf = Shelf::default();
    shelf.begin(&[Part::Jobs, Part::Pods, Part::Cron]);
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        tell::<Job>(&shelf, &config, line);
        tell::<Pod>(&shelf, &config, line);
        tell::<CronJob>(&shelf, &config, line);
    }
    shelf.tell::<Job>(&config, Event::InitDone);
    shelf.tell::<Pod>(&config, Event::InitDone);
    shelf.tell::<CronJob>(&config, Event::InitDone);
    shelf.seen(&config).is_some_and(|seen| seen.is_ok_and(|seen| !seen.runs.is_empty() || seen.schedule.is_some()))
}

fn tell<K: Told>(shelf: &Shelf, config: &Config, line: &[u8]) {
    let event = match serde_json::from_slice::<WatchEvent<Object<K>>>(line) {
        Ok(WatchEvent::Added(object)) => Event::InitApply(object),
        Ok(WatchEvent::Modified(object)) => Event::Apply(object),
        Ok(WatchEvent::Deleted(object)) => Event::Delete(object),
        Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => return,
    };
    shelf.tell(config, event);
}
