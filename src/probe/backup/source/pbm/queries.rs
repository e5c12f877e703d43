//! What is asked of Percona Backup for MongoDB's collections in `admin`. Every query names the fields that it wants: the documents hold
//! credentials of the storage too.

use std::collections::BTreeSet;

use bson::raw::{RawDocumentBuf, cstr};
use bson::{RawArrayBuf, Timestamp, rawdoc};

use super::coverage::Stretch;
use super::documents::Kind;
use crate::probe::mongodb::Find;

/// The collection of backups.
pub(super) const BACKUPS: &str = "pbmBackups";
/// The collection of the saved oplog's chunks.
pub(super) const CHUNKS: &str = "pbmPITRChunks";
/// The collections of locks: backups and restores have theirs in the first, slicing the oplog in the second.
pub(super) const LOCKS: [&str; 2] = ["pbmLock", "pbmLockOp"];
/// So many backups are read at most, the newest: as many as the books remember.
pub(super) const MOST_ENTRIES: u32 = 4096;
/// So many chunks are read at a time. What was read is kept, and the next reading goes on from there.
pub(super) const PIECE: u32 = 5000;
/// So many locks, and so many agents.
const MOST: u32 = 1000;

/// The backups or restores that began at a time or later, the newest first.
pub(super) fn entries(kind: Kind, from: i64) -> Find<'static> {
    let collection = match kind {
        Kind::Backups => BACKUPS,
        Kind::Restores => "pbmRestores",
    };
    let fields = rawdoc! {
        "_id": 0, "type": 1, "opid": 1, "name": 1, "backup": 1, "status": 1, "error": 1, "start_ts": 1, "last_transition_ts": 1,
        "hb": 1, "size": 1, "size_uncompressed": 1, "conditions.timestamp": 1, "conditions.status": 1, "replsets.name": 1,
        "replsets.node": 1, "replsets.nodes.name": 1, "replsets.error": 1,
    };
    let filter = rawdoc! { "start_ts": { "$gte": from } };
    Find { collection, filter, fields, sort: rawdoc! { "start_ts": -1 }, most: MOST_ENTRIES, at_once: false }
}

/// The locks of one of [`LOCKS`].
pub(super) fn locks(collection: &'static str) -> Find<'static> {
    let fields = rawdoc! { "_id": 0, "type": 1, "replset": 1, "node": 1, "opid": 1, "hb": 1 };
    Find { collection, filter: rawdoc! {}, fields, sort: rawdoc! {}, most: MOST, at_once: false }
}

/// The agents.
pub(super) fn agents() -> Find<'static> {
    let fields = rawdoc! { "_id": 0, "n": 1, "rs": 1, "arb": 1, "hb": 1, "pbms.ok": 1, "nodes.ok": 1, "stors.ok": 1 };
    Find { collection: "pbmAgents", filter: rawdoc! {}, fields, sort: rawdoc! { "n": 1 }, most: MOST, at_once: false }
}

/// Whether point-in-time recovery is switched on. A profile is the configuration of another storage.
pub(super) fn config() -> Find<'static> {
    let (filter, fields) = (rawdoc! { "profile": { "$ne": true } }, rawdoc! { "_id": 0, "pitr.enabled": 1 });
    Find { collection: "pbmConfig", filter, fields, sort: rawdoc! {}, most: 1, at_once: false }
}

/// How point-in-time recovery says it is.
pub(super) fn pitr() -> Find<'static> {
    let fields = rawdoc! { "_id": 0, "status": 1, "replsets.name": 1, "replsets.status": 1 };
    Find { collection: "pbmPITR", filter: rawdoc! {}, fields, sort: rawdoc! {}, most: 1, at_once: false }
}

/// The chunks behind those that are known: of each known replica set by its last chunk, and all of others. One branch for each set is
/// one look into the index that the collection has.
pub(super) fn chunks<'s>(known: impl Iterator<Item = (&'s str, (u32, u32))>) -> Find<'static> {
    let (mut names, mut branches) = (RawArrayBuf::new(), RawArrayBuf::new());
    for (set, (time, increment)) in known {
        names.push(set);
        branches.push(rawdoc! { "rs": set, "start_ts": { "$gt": Timestamp { time, increment } } });
    }
    let filter = if names.is_empty() {
        rawdoc! {}
    } else {
        branches.push(rawdoc! { "rs": { "$nin": names } });
        rawdoc! { "$or": branches }
    };
    let fields = rawdoc! { "_id": 0, "rs": 1, "start_ts": 1, "end_ts": 1 };
    Find { collection: CHUNKS, filter, fields, sort: rawdoc! { "start_ts": 1 }, most: PIECE, at_once: true }
}

/// The first backup that a restore to points within the stretch can begin with, in a deployment of those replica sets (`None` if they are
/// not known).
///
/// Source: `GetFirstBackup` and `bcpMatchCluster` of percona-backup-mongodb 2.x. Physical and incremental backups are as good as logical
/// ones; those that were made by somebody else, have chosen collections only, are in the storage of a profile, or have a replica set
/// that is not there any more are none.
pub(super) fn base(stretch: Stretch, members: Option<&BTreeSet<String>>) -> Find<'static> {
    // All of the second counts.
    let (start, end) =
        (Timestamp { time: stretch.start.0, increment: 0 }, Timestamp { time: stretch.end.0, increment: 0 });
    let mut filter = rawdoc! {
        "status": "done",
        "type": { "$ne": "external" },
        "nss": null,
        "store.profile": null,
        "last_write_ts": { "$gte": start, "$lt": end },
    };
    if let Some(members) = members {
        let names: RawArrayBuf = members.iter().map(String::as_str).collect();
        filter.append(cstr!("replsets"), rawdoc! { "$not": { "$elemMatch": { "name": { "$nin": names } } } });
    }
    let fields = rawdoc! { "_id": 0, "last_write_ts": 1 };
    Find { collection: BACKUPS, filter, fields, sort: rawdoc! { "last_write_ts": 1 }, most: 1, at_once: true }
}

/// How many complete backups there are, when the oldest ended, and how big they are together.
pub(super) fn totals() -> RawArrayBuf {
    let mut pipeline = RawArrayBuf::new();
    let group: RawDocumentBuf = rawdoc! {
        "_id": null, "retained": { "$sum": 1 }, "oldest": { "$min": "$last_transition_ts" }, "bytes": { "$sum": "$size" },
    };
    pipeline.push(rawdoc! { "$match": { "status": "done" } });
    pipeline.push(rawdoc! { "$group": group });
    pipeline
}
