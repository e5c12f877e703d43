//! What documents mean, and what is remembered between readings.

use bson::raw::RawDocumentBuf;
use bson::{Timestamp, rawdoc};

use super::documents::{self, Entry, Kind};
use super::gather::{from, remember, run, words};
use crate::probe::backup::runs::{End, Outcome};

/// When everything here begins.
const START: i64 = 1_763_690_000;

fn hb(seconds: i64) -> Timestamp {
    Timestamp { time: u32::try_from(START + seconds).unwrap(), increment: 1 }
}

fn as_of(seconds: i64) -> f64 {
    (START + seconds) as f64
}

fn spell(node: &str) -> Option<String> {
    node.contains(':').then(|| node.to_owned())
}

fn backup(status: &str, seconds: i64) -> RawDocumentBuf {
    rawdoc! {
        "type": "incremental", "opid": "691f9f0d", "name": "2025-11-21T02:30:00Z", "status": status, "start_ts": START,
        "last_transition_ts": START + seconds, "hb": hb(seconds), "size": 1000_i64, "size_uncompressed": 4000_i64,
        "conditions": [
            { "timestamp": START + 1, "status": "starting" }, { "timestamp": START + 5, "status": "running" },
            { "timestamp": START + 15, "status": "dumpDone" }, { "timestamp": START + 16, "status": "new in 2099" },
            { "timestamp": START + seconds, "status": status },
        ],
        "replsets": [
            { "name": "rs0", "node": "db2:27017" }, { "name": "rs1", "node": "db5:27017" },
            { "name": "rs2", "node": "db2:27017" }, { "name": "rs3", "node": "nowhere" },
        ],
    }
}

fn entry(document: &RawDocumentBuf) -> Entry {
    documents::entry(document, Kind::Backups, spell).unwrap()
}

#[test]
fn a_backup_that_ended_is_read_whole() {
    let Entry { run, start, heartbeat, sets } = entry(&backup("done", 30));
    assert_eq!(sets, ["rs0", "rs1", "rs2", "rs3"]);
    assert_eq!((start, heartbeat), (START, Some(as_of(30))));
    assert_eq!((run.id.as_str(), run.started), ("691f9f0d", Some(as_of(0))));
    assert_eq!(run.end, Some(End { at: as_of(30), outcome: Outcome::Success }));
    assert_eq!(run.seconds(), Some(30.0));
    assert_eq!(run.nodes().collect::<Vec<_>>(), ["db2:27017", "db5:27017"]);
    assert_eq!((run.size, run.uncompressed), (Some(1000), Some(4000)));
    let phases = [("starting", 4.0), ("running", 10.0), ("dumpDone", 1.0), ("other", 14.0)];
    assert_eq!(run.phases, phases.map(|(name, seconds)| (name.to_owned(), seconds)));
    assert_eq!(run.note, "2025-11-21T02:30:00Z, incremental");
}

#[test]
fn statuses_are_outcomes() {
    let outcome = |status, kind| {
        documents::entry(&backup(status, 9), kind, spell).unwrap().run.end.map(|end| end.outcome.label())
    };
    for (status, backup, restore) in [
        ("done", Some("success"), Some("success")),
        ("error", Some("failure"), Some("failure")),
        ("canceled", Some("canceled"), Some("canceled")),
        ("partlyDone", None, Some("failure")),
        ("running", None, None),
        ("", None, None),
    ] {
        assert_eq!(outcome(status, Kind::Backups), backup, "{status}");
        assert_eq!(outcome(status, Kind::Restores), restore, "{status}");
    }
}

#[test]
fn errors_are_said_and_cleaned() {
    let failed = rawdoc! {
        "name": "n", "status": "error", "start_ts": START, "type": "logical", "error": "no\u{7}space\u{202e}",
    };
    assert_eq!(entry(&failed).run.note, "n, logical: no space ");
    let of_set = rawdoc! {
        "name": "n", "status": "error", "start_ts": START, "error": "",
        "replsets": [{ "name": "rs0" }, { "name": "rs1", "error": "gone" }],
    };
    assert_eq!(entry(&of_set).run.note, "n: rs1: gone");
    assert_eq!(entry(&of_set).run.id, "n", "a backup of long ago has no operation");
}

#[test]
fn odd_documents_are_no_harm() {
    for document in [
        rawdoc! {},
        rawdoc! { "start_ts": START },
        rawdoc! { "opid": "x" },
        rawdoc! { "opid": "x", "start_ts": -5 },
        rawdoc! { "opid": "x", "start_ts": i64::MAX },
        rawdoc! { "opid": 7, "name": null, "start_ts": START },
    ] {
        assert_eq!(documents::entry(&document, Kind::Backups, spell), None, "{document:?}");
    }
    let odd = rawdoc! {
        "opid": "x", "start_ts": START as f64, "last_transition_ts": i64::MIN, "status": 7, "hb": START, "size": -1,
        "conditions": [7, { "timestamp": i64::MAX, "status": "a" }, { "timestamp": START, "status": "running" }],
        "replsets": { "node": "a:1" },
    };
    let Entry { run, heartbeat, .. } = entry(&odd);
    assert_eq!((run.end, heartbeat, run.size, run.node), (None, None, None, None));
    assert_eq!(run.phases, []);
}

#[test]
fn a_backup_without_a_heartbeat_is_lost_when_nobody_can_come_back_to_it() {
    let running = entry(&backup("running", 20));
    let lock = rawdoc! { "type": "backup", "replset": "rs0", "node": "a:1", "opid": "691f9f0d", "hb": hb(20) };
    let locks = [documents::lock(&lock, spell).unwrap()];
    let look = |locks: &[_], now| {
        let run = run(running.clone(), locks, as_of(now));
        (run.end, run.is_silent)
    };
    let lost = Some(End { at: as_of(20), outcome: Outcome::Lost });
    for locks in [&locks[..], &[]] {
        assert_eq!(look(locks, 50), (None, false), "30 seconds are not too long");
    }
    assert_eq!(look(&[], 51), (lost, false), "nobody holds its lock");
    assert_eq!(look(&locks, 51), (None, true));
    assert_eq!(look(&locks, 320), (None, true));
    assert_eq!(look(&locks, 321), (lost, false));
    let done = entry(&backup("done", 20));
    assert_eq!(run(done.clone(), &[], as_of(9_000)), done.run);
}

#[test]
fn locks_say_where_before_the_backup_does() {
    let starting = rawdoc! { "opid": "op", "status": "starting", "start_ts": START, "hb": hb(0), "replsets": [] };
    let lock = |node: &str, opid: &str, seconds| {
        let document = rawdoc! { "type": "backup", "replset": "rs0", "node": node, "opid": opid, "hb": hb(seconds) };
        documents::lock(&document, spell).unwrap()
    };
    let locks = [lock("c:1", "op", 9), lock("b:1", "other", 9), lock("a:1", "op", -90), lock("b:1", "op", 9)];
    let run = run(entry(&starting), &locks, as_of(10));
    assert_eq!(run.nodes().collect::<Vec<_>>(), ["b:1", "c:1"]);
    assert_eq!(words(&locks[0], as_of(10)), None);
    assert_eq!(words(&locks[2], as_of(10)).unwrap(), "a:1 left a lock for backup 100 s ago");
}

#[test]
fn only_what_may_change_is_read_again() {
    let at = |seconds: i64, status: &str, heartbeat: i64| {
        let document = rawdoc! { "opid": "x", "start_ts": START + seconds, "status": status, "hb": hb(heartbeat) };
        entry(&document)
    };
    let now = as_of(200_000);
    assert_eq!(from(&[], now), 0);
    let done = [at(190_000, "done", 0), at(100_000, "done", 0)];
    assert_eq!(from(&done, now), START + 186_400);
    let open = [at(190_000, "done", 0), at(100_000, "running", 199_990), at(50, "running", 60)];
    assert_eq!(from(&open, now), START + 100_000, "the one that nobody comes back to is left alone");
    let ahead = [at(9_000_000, "done", 0)];
    assert_eq!(from(&ahead, now), START + 196_400, "a clock that is ahead hides nothing");
}

#[test]
fn an_agent_that_vanishes_is_down() {
    let agent = |node: &str, storage: bool, seconds| {
        let document = rawdoc! {
            "n": node, "rs": "rs0", "hb": hb(seconds), "pbms": { "ok": true }, "nodes": { "ok": true },
            "stors": { "ok": storage, "e": "secret" },
        };
        documents::agent(&document, spell).unwrap()
    };
    let (mut known, mut notes) = (std::collections::BTreeMap::new(), Vec::new());
    let mut state = |agents: &[_], now| {
        notes.clear();
        let agents = remember(&mut known, agents, as_of(now), &mut notes);
        let agents: Vec<_> = agents.into_iter().map(|(node, is_well)| format!("{node} {is_well}")).collect();
        (agents.join(", "), notes.join(", "))
    };
    let all = [agent("a:1", true, 0), agent("b:1", false, 0), agent("c:1", true, -31)];
    let (agents, words) = state(&all, 0);
    assert_eq!(agents, "a:1 true, b:1 false, c:1 false");
    assert_eq!(words, "the agent of b:1 has trouble with the storage, the agent of c:1 has not been heard of for 31 s");
    assert_eq!(state(&[agent("b:1", true, 60)], 60).0, "a:1 false, b:1 true, c:1 false");
    assert_eq!(state(&[agent("b:1", true, 86_400)], 86_400).0, "b:1 true", "forgotten after a day");
}

/// What the fuzz target runs, on its seeds and mutations of them.
#[test]
fn broken_documents_are_survived() {
    let (seeds, taken) = crate::corpus::each("pbm_document", |bytes| {
        let (runs, is_taken) = super::fuzz::document(bytes);
        for run in runs {
            assert!(!run.id.is_empty() && run.started.is_some_and(|started| started > 0.0 && started < 1e12));
            assert!(run.phases.iter().all(|(_, seconds)| *seconds >= 0.0), "{run:?}");
        }
        is_taken
    });
    assert!(seeds >= 11 && taken > seeds, "{taken} of {seeds} were read");
}

#[test]
fn storage_is_never_asked_for() {
    use super::queries;
    let finds = [
        queries::entries(Kind::Backups, 0),
        queries::entries(Kind::Restores, 0),
        queries::locks(queries::LOCKS[0]),
        queries::agents(),
        queries::config(),
        queries::pitr(),
        queries::chunks(std::iter::empty()),
        queries::base(super::coverage::Stretch { start: (1, 0), end: (2, 0) }, None),
    ];
    for find in finds {
        let fields: Vec<_> = find.fields.iter().map(|field| field.unwrap()).collect();
        let is_chosen = |key: &str| key != "_id" && !key.starts_with("stor") && key != "store";
        let wanted: Vec<_> =
            fields.iter().filter(|(_, value)| value.as_i32() == Some(1)).map(|(key, _)| key.as_str()).collect();
        // A projection that only leaves out would let everything else through.
        assert!(!wanted.is_empty(), "{}", find.collection);
        assert!(wanted.iter().all(|key| is_chosen(key) || *key == "stors.ok"), "{}: {wanted:?}", find.collection);
    }
}
