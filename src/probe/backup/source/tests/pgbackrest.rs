use std::path::Path;

use super::*;

fn seen(name: &str) -> Result<Seen, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/repository_listing").join(name);
    let bytes = std::fs::read(path).unwrap();
    answer(&mut &bytes[1..]).unwrap().0.into_iter().next().unwrap().seen()
}

#[test]
fn backups_of_a_stanza_are_runs() {
    let seen = seen("pgbackrest_2_45_two").unwrap();
    let stock = seen.stock.unwrap();
    assert_eq!((stock.retained, stock.oldest, stock.bytes), (2, Some(1_795_290_058.0), Some(3_069_488 + 512)));
    let [incremental, full] = &seen.runs[..] else { panic!("{:?}", seen.runs) };
    assert_eq!((full.id.as_str(), full.seconds(), full.note.as_str()), ("20261121-194047F", Some(11.0), "full"));
    assert_eq!((incremental.size, incremental.uncompressed), (Some(512), Some(8_457)));
    let wal = "write-ahead log 15-1: 000000010000000000000001 to 000000010000000000000004";
    assert_eq!(seen.notes, ["a backup is running", wal]);
    assert!(!seen.has_all_open && seen.pitr.is_none());
}

#[test]
fn a_stanza_without_backups_has_none_and_a_repository_that_is_gone_says_nothing() {
    let empty = seen("pgbackrest_2_45_empty").unwrap();
    assert_eq!((empty.runs.len(), empty.stock.unwrap().retained), (0, 0));
    let gone = seen("pgbackrest_2_45_gone").unwrap_err();
    assert_eq!((gone.reason, &*gone.detail), (Reason::Rejected, "pgbackrest: repository 1: missing stanza path"));
    let wrong = seen("pgbackrest_2_45_wrong_passphrase").unwrap_err();
    assert_eq!(wrong.reason, Reason::Auth);
    assert!(wrong.detail.ends_with("is the passphrase right?"), "{wrong}");
}

#[test]
fn pages_with_wrong_checksums_are_no_success() {
    let json = r#"[{"name":"main","status":{"code":0},"repo":[{"status":{"code":0}}],
        "backup":[{"label":"x","timestamp":{"start":1,"stop":2},"error":true}]}]"#;
    let seen = answer(&mut json.as_bytes()).unwrap().0.into_iter().next().unwrap().seen().unwrap();
    assert_eq!(seen.runs[0].end, Some(End { at: 2.0, outcome: Outcome::Failure }));
    assert!(seen.runs[0].note.contains("wrong checksums"));
    assert_eq!(seen.stock.unwrap().bytes, None, "not of all of them is known how large they are");
}

#[test]
fn a_passphrase_that_is_missing_is_a_matter_of_credentials() {
    let said = "ERROR: [037]: info command requires option: repo1-cipher-pass";
    assert_eq!(classify(Some(37), said), Some(Reason::Auth));
    assert_eq!(classify(Some(55), "ERROR: [055]: unable to open missing file"), None);
}
