use std::path::Path;

use super::*;
use crate::probe::backup::runs::{Outcome, Run, Seen};
use crate::probe::testing;
use crate::settings::{Files, Settings};

struct Keys(Rules);

impl Settings for Keys {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Rules::read(section).map(Self)
    }
}

fn rules(keys: &str) -> Rules {
    testing::config::<Keys>(Path::new("/"), keys, &Files::new(false)).unwrap().0
}

/// Now.
const NOW: f64 = 1_800_000_000.0;

/// What a listing of names, sizes and ages in seconds comes to. A name with a `+` is of one that grew.
fn seen(rules: &Rules, files: &[(&str, u64, f64)], open: &[&str]) -> Seen {
    seen_with(rules, files, open, &|_| None)
}

fn seen_with(
    rules: &Rules,
    files: &[(&str, u64, f64)],
    open: &[&str],
    manifest: &dyn Fn(&Wanted) -> Option<Result<Manifest, String>>,
) -> Seen {
    let open: Vec<_> = open.iter().map(|id| (*id).to_owned()).collect();
    let mut files = files.to_vec();
    files.sort_by(|a, b| a.0.cmp(b.0));
    let mut selection = Selection::new(rules, NOW, &open);
    for (name, size, age) in files {
        let (name, grew) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
        selection.add(Entry { name, size, modified: NOW - age, grew }).unwrap();
    }
    selection.finish().into_seen(manifest)
}

fn ids(seen: &Seen) -> Vec<&str> {
    let mut ids: Vec<_> = seen.runs.iter().map(|run| run.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

fn ended(run: &Run) -> Option<(f64, Outcome)> {
    run.end.map(|end| (NOW - end.at, end.outcome))
}

#[test]
fn settled_files_that_match_are_backups_and_nothing_else_is() {
    let rules = rules("pattern = 'orders-*.gz'");
    let files = [
        ("orders-1.gz", 10, 9000.0),
        ("orders-2.gz", 20, 3000.0),
        ("orders-3.gz", 30, 60.0),
        ("orders-0.gz.part", 7, 9000.0),
        (".orders-9.gz", 7, 9000.0),
        ("users-1.gz", 7, 9000.0),
        ("old/orders-1.gz", 7, 9000.0),
    ];
    let seen = seen(&rules, &files, &[]);
    assert_eq!(ids(&seen), ["orders-1.gz at 1799991000.000", "orders-2.gz at 1799997000.000"]);
    let stock = seen.stock.unwrap();
    assert_eq!((stock.retained, stock.oldest, stock.bytes), (2, Some(NOW - 9000.0), Some(30)));
    assert!(seen.has_all_open);
    assert_eq!(seen.notes, ["1 that match the pattern are not complete"]);
}

#[test]
fn nothing_there_is_a_reading_too() {
    let stock = seen(&rules("pattern = '*'"), &[], &[]).stock.unwrap();
    assert_eq!((stock.retained, stock.oldest, stock.bytes), (0, None, Some(0)));
}

#[test]
fn a_marker_completes_a_backup_and_says_when() {
    let rules = rules("pattern = 'orders-*'\ncomplete = '{name}.done'\nstarted = '{name}.started'");
    let files = [
        ("orders-1", 10, 9000.0),
        ("orders-1.done", 0, 8990.0),
        ("orders-1.started", 0, 9900.0),
        ("orders-2", 20, 3000.0),
        // Written again after its marker.
        ("orders-3", 30, 100.0),
        ("orders-3.done", 0, 4000.0),
        ("orders-30", 5, 500.0),
        ("orders-30.done", 0, 500.0),
    ];
    let seen = seen(&rules, &files, &[]);
    assert_eq!(ids(&seen), ["orders-1 at 1799991000.000", "orders-30 at 1799999500.000"]);
    let run = seen.runs.iter().find(|run| run.id.starts_with("orders-1 ")).unwrap();
    assert_eq!((run.started, ended(run)), (Some(NOW - 9900.0), Some((8990.0, Outcome::Success))));
    assert_eq!(run.seconds(), Some(910.0));
    assert_eq!(seen.stock.unwrap().retained, 2);
}

#[test]
fn a_folder_is_one_backup() {
    let rules = rules("pattern = 'daily/b-*'\ncomplete = '{name}/_SUCCESS'");
    let files = [
        ("daily/b-1/a", 10, 9000.0),
        ("daily/b-1/sub/b", 5, 8000.0),
        ("daily/b-1/_SUCCESS", 1, 7999.0),
        ("daily/b-2/a", 10, 900.0),
        ("daily/b-3.part/a", 10, 9.0),
        ("daily/b-4/", 0, 9.0),
        ("weekly/b-1/a", 10, 9000.0),
    ];
    let seen = seen(&rules, &files, &[]);
    assert_eq!(ids(&seen), ["daily/b-1 at 1799992000.000", "daily/b-3 seen 1800000000.000"]);
    assert_eq!(seen.runs.iter().find_map(|run| run.size), Some(15));
    assert_eq!(seen.stock.unwrap().bytes, Some(15));
}

#[test]
fn a_start_marker_opens_a_run_until_its_backup_is_complete() {
    let rules = rules("pattern = 'o-*.gz'\nstarted = '{name}.started'");
    let going = seen(&rules, &[("o-1.gz.started", 0, 50.0), ("o-1.gz", 3, 1.0)], &[]);
    let open = "o-1.gz since 1799999950.000";
    assert_eq!((ids(&going), going.runs[0].started), (vec![open], Some(NOW - 50.0)));
    let over = seen(&rules, &[("o-1.gz.started", 0, 500.0), ("o-1.gz", 3, 200.0)], &[]);
    assert_eq!(over.runs[0].opened_as.as_deref(), Some("o-1.gz since 1799999500.000"));
    // The script takes its start marker away.
    let over = seen(&rules, &[("o-1.gz", 3, 200.0)], &[open]);
    assert_eq!(over.runs[0].opened_as.as_deref(), Some(open));
    // Once more under the same name: the old one is still there.
    let again = seen(&rules, &[("o-1.gz.started", 0, 100.0), ("o-1.gz", 3, 200.0)], &[]);
    assert_eq!(ids(&again), ["o-1.gz at 1799999800.000", "o-1.gz since 1799999900.000"]);
    assert!(again.runs.iter().all(|run| run.opened_as.is_none()));
}

#[test]
fn a_file_that_grows_is_a_run_and_keeps_its_id() {
    let rules = rules("pattern = 'o-*.gz'");
    assert!(seen(&rules, &[("o-1.gz", 3, 1.0)], &[]).runs.is_empty(), "moved into place, for all that is known");
    let first = seen(&rules, &[("o-1.gz+", 3, 1.0)], &[]);
    assert_eq!(ids(&first), ["o-1.gz seen 1800000000.000"]);
    let known = "o-1.gz seen 1799999999.500";
    assert_eq!(ids(&seen(&rules, &[("o-1.gz", 3, 110.0)], &[known])), [known]);
    let over = seen(&rules, &[("o-1.gz", 3, 130.0)], &[known]);
    assert_eq!((over.runs.len(), over.runs[0].opened_as.as_deref()), (1, Some(known)));
    // A partial one may rest for longer once it is known.
    assert_eq!(ids(&seen(&rules, &[("o-1.gz.part", 3, 100.0)], &[])), ["o-1.gz seen 1800000000.000"]);
    assert!(seen(&rules, &[("o-1.gz.part", 3, 130.0)], &[]).runs.is_empty());
    assert_eq!(ids(&seen(&rules, &[("o-1.gz.part", 3, 1000.0)], &[known])), [known]);
    assert!(seen(&rules, &[("o-1.gz.part", 3, 1300.0)], &[known]).runs.is_empty());
}

#[test]
fn a_manifest_says_more_and_is_waited_for() {
    let rules = rules("pattern = 'o-*.gz'\nmanifest = '{name}.json'");
    let files = [
        ("o-1.gz", 3, 500.0),
        ("o-1.gz.json", 99, 500.0),
        ("o-2.gz", 5, 400.0),
        ("o-3.gz", 7, 300.0),
        ("o-3.gz.json", 99, 300.0),
        ("o-4.gz.json", 99, 200.0),
        ("o-5.gz", 11, 100.0),
        ("o-5.gz.json", 99, 100.0),
    ];
    let read = |wanted: &Wanted| match wanted.name.as_str() {
        "o-1.gz" => Some(Manifest::read(
            br#"{"started":1799999000,"ended":"2027-01-15T07:51:40Z","size":4,"uncompressed":40,"node":"a:1"}"#,
        )),
        "o-3.gz" | "o-4.gz" => Some(Manifest::read(br#"{"outcome":"failure"}"#)),
        _ => Some(Manifest::read(b"{")),
    };
    let seen = seen_with(&rules, &files, &[], &read);
    assert_eq!(ids(&seen), ["o-1.gz at 1799999500.000", "o-3.gz at 1799999700.000", "o-4.gz at 1799999800.000"]);
    let run = seen.runs.iter().find(|run| run.id.starts_with("o-1")).unwrap();
    assert_eq!((run.started, run.size, run.uncompressed), (Some(1_799_999_000.0), Some(4), Some(40)));
    assert_eq!((run.node.as_deref(), run.end.unwrap().at), (Some("a:1"), 1_799_999_500.0));
    let stock = seen.stock.unwrap();
    assert_eq!((stock.retained, stock.bytes), (1, Some(3)));
    assert!(seen.notes.iter().any(|note| note.contains("o-5.gz") && note.contains("cut off")), "{:?}", seen.notes);
    // A run that is known to go on does so until its manifest can be read.
    let unread = seen_with(&rules, &files[..2], &["o-1.gz seen 5.000"], &|_| Some(Err("torn".to_owned())));
    assert_eq!((ids(&unread), unread.runs[0].end), (vec!["o-1.gz seen 5.000"], None));
    // Not read in time: neither told nor said to be bad.
    let unread = seen_with(&rules, &files, &[], &|_| None);
    assert!(unread.runs.is_empty() && unread.notes.len() == 1, "{unread:?}");
}

#[test]
fn word_of_a_failure_needs_no_marker() {
    let rules = rules("pattern = 'o-*'\ncomplete = '{name}.done'\nmanifest = '{name}.json'");
    let files = [("o-1", 3, 500.0), ("o-1.json", 9, 500.0)];
    let read = |outcome: &'static str| {
        move |_: &Wanted| Some(Manifest::read(format!("{{\"outcome\":\"{outcome}\"}}").as_bytes()))
    };
    let seen = seen_with(&rules, &files, &[], &read("failure"));
    assert_eq!(ended(&seen.runs[0]), Some((500.0, Outcome::Failure)));
    assert_eq!(seen.stock.unwrap().retained, 0);
    assert!(seen_with(&rules, &files, &[], &read("success")).runs.is_empty());
}

#[test]
fn a_long_listing_keeps_its_newest_and_all_sums() {
    let rules = rules("pattern = '*.gz'");
    let names: Vec<_> = (0..5000_u64).map(|at| (format!("b-{at:05}.gz"), at)).collect();
    let files: Vec<_> = names.iter().map(|(name, at)| (name.as_str(), *at, 1e6 - *at as f64)).collect();
    let seen = seen(&rules, &files, &[]);
    assert_eq!(seen.runs.len(), 200);
    assert!(seen.runs.iter().all(|run| run.size >= Some(4800)));
    let stock = seen.stock.unwrap();
    assert_eq!((stock.retained, stock.bytes, stock.oldest), (5000, Some(4999 * 5000 / 2), Some(NOW - 1e6)));
}

#[test]
fn names_out_of_order_are_refused() {
    let rules = rules("pattern = '*'");
    let mut selection = Selection::new(&rules, NOW, &[]);
    let mut add = |name| selection.add(Entry { name, size: 0, modified: 0.0, grew: false });
    add("b").unwrap();
    assert!(add("a").is_err());
}

#[test]
fn it_says_until_when_it_holds() {
    let rules = rules("pattern = '*'");
    let holds = |files: &[(&str, f64)]| {
        let mut selection = Selection::new(&rules, NOW, &[]);
        for (name, age) in files {
            selection.add(Entry { name, size: 0, modified: NOW - age, grew: false }).unwrap();
        }
        selection.finish().holds_until()
    };
    assert_eq!(holds(&[("a", 200.0)]), f64::INFINITY);
    assert_eq!(holds(&[("a", 20.0), ("b", 50.0), ("c", 200.0)]), NOW + 70.0);
}

#[test]
fn only_folders_that_can_matter_are_entered() {
    let rules = rules("pattern = '20*/base-*'\ncomplete = '{name}/_SUCCESS'");
    for (folder, leads) in [
        ("2026", true),
        ("1999", false),
        (".20", false),
        ("2026/base-1", true),
        ("2026/base-1.part", true),
        ("2026/wal", false),
        ("2026/base-1/deep/er", true),
    ] {
        assert_eq!(rules.leads(folder), leads, "{folder}");
    }
    assert_eq!(rules.prefix(), "20");
}

#[test]
fn long_and_odd_names_have_ids_of_their_own() {
    let rules = rules("pattern = '*'");
    let long = |end: &str| format!("{}{end}", "x".repeat(300));
    let (a, b) = (long("a"), long("b"));
    let seen = seen(&rules, &[(&a, 1, 500.0), (&b, 1, 500.0), ("c\nd", 1, 500.0), ("c\td", 1, 500.0)], &[]);
    let mut ids = ids(&seen);
    assert!(ids.iter().all(|id| id.len() <= Run::LONGEST && !id.contains('\n')), "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn bad_keys_are_refused() {
    for (keys, problem) in [
        ("settle = '1s'", "missing field `pattern`"),
        ("pattern = '/etc/*'", "relative path"),
        ("pattern = 'a/../b'", "relative path"),
        ("pattern = 'a/**'", "no `**`"),
        ("pattern = '[a'", "not a pattern"),
        ("pattern = '*'\nignore = ['a/b']", "for one name"),
        ("pattern = '*'\ncomplete = 'done'", "{name}"),
        ("pattern = '*'\ncomplete = '{name}'", "{name}"),
        ("pattern = '*'\nstarted = '{name}/../x'", "beside the backup"),
        ("pattern = '*'\nmanifest = '{name}.d/x'", "beside the backup"),
        ("pattern = '*'\nsettle = '2d'", "at most 1d"),
    ] {
        let problems = testing::config::<Keys>(Path::new("/"), keys, &Files::new(false)).err().unwrap();
        assert!(problems.len() == 1 && problems[0].contains(problem), "{keys}: {problems:?}");
    }
}

#[test]
fn manifests_are_read_strictly() {
    let good = Manifest::read(br#"{"started":"2026-11-21T02:30:00+01:00","outcome":"canceled","x":[1]}"#).unwrap();
    assert_eq!((good.started, good.outcome), (Some(1_795_224_600.0), Some(Outcome::Canceled)));
    for bad in [
        "",
        "[]",
        r#"{"started":"yesterday"}"#,
        r#"{"started":1799999000000}"#,
        r#"{"size":-1}"#,
        r#"{"outcome":"lost"}"#,
        r#"{"node":""}"#,
        r#"{"started":2,"ended":1}"#,
    ] {
        assert!(Manifest::read(bad.as_bytes()).is_err(), "{bad}");
    }
    let large = format!("{}{{}}", " ".repeat(Manifest::LARGEST));
    assert!(Manifest::read(large.as_bytes()).unwrap_err().contains("64 KiB"));
}

#[test]
fn manifests_are_read_once_unless_they_are_bad() {
    let mut manifests = Manifests::default();
    let wanted = |name: &str, modified| Wanted { name: name.to_owned(), modified, size: 2 };
    let all = [wanted("a", 1.0), wanted("b", 1.0)];
    assert_eq!(manifests.missing(&all), all);
    manifests.put(all[0].clone(), Ok(Manifest::default()));
    manifests.put(all[1].clone(), Err("torn".to_owned()));
    assert_eq!(manifests.missing(&all), [all[1].clone()]);
    assert_eq!(manifests.missing(&[wanted("a", 2.0)]), [wanted("a", 2.0)]);
    assert!(manifests.get(&all[0]).is_none());
}
