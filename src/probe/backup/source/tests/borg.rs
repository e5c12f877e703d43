use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::probe::backup::books::Event;
use crate::probe::backup::held::Held;
use crate::probe::backup::ledger::{Ledger, Unwritten};
use crate::probe::backup::runs::Stock;
use crate::probe::testing::config;
use crate::settings::{Files, Settings};

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Self::read(section)
    }
}

/// A fake Borg, which notes its arguments and folders, does the file `first` if there is one, and prints the files `list`, `detail` or `info`.
fn fake(keys: &str) -> (TempDir, Reader) {
    let folder = tempfile::tempdir().unwrap();
    let reader = fake_in(folder.path(), keys, &Shared::default());
    (folder, reader)
}

/// The same, in a folder that is there.
fn fake_in(folder: &Path, keys: &str, shared: &Shared) -> Reader {
    let program = folder.join("borg");
    let script = "cd \"$(dirname \"$0\")\"; echo \"$*\" >>calls; echo \"$BORG_CACHE_DIR $BORG_SECURITY_DIR\" >folders\n\
        [ ! -e first ] || . ./first\n\
        case \"$*\" in info*) cat info;; *--last*) cat detail;; *) cat list;; esac";
    lab::script(&program, script).unwrap();
    let keys = format!("program = \"{}\"\nrepository = \"/srv\"\n{keys}", program.display());
    let config: Config = config(folder, &keys, &Files::new(false)).unwrap();
    Reader::new(&config, "job", shared).unwrap()
}

fn answer_of(archives: &[(&str, u32, &str)], changed: &str, rest: &str) -> String {
    let archive = |(id, hour, more): &(&str, u32, &str)| {
        format!("{{\"id\":\"{id}\",\"start\":\"2026-01-01T{hour:02}:00:00.000000\"{more}}}")
    };
    let archives: Vec<_> = archives.iter().map(archive).collect();
    format!("{{\"archives\":[{}],\"repository\":{{\"last_modified\":\"{changed}\"}}{rest}}}", archives.join(","))
}

async fn read(reader: &Reader) -> Seen {
    let ends = Instant::now() + Duration::from_secs(60);
    reader.read(Look { now: 0.0, ends, open: &[] }).await.unwrap()
}

#[tokio::test]
async fn only_new_archives_are_asked_about() {
    let (folder, reader) = fake("nodes = { h1 = \"mongo-1:27017\" }");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let ended = |hour: u32| format!(",\"end\":\"2026-01-01T{hour:02}:30:00.000000\",\"hostname\":\"h1\"");
    let (one, two) = (ended(1), ended(2));
    write("list", answer_of(&[("a", 1, ""), ("b", 2, "")], "x", ""));
    write("detail", answer_of(&[("a", 1, one.as_str()), ("b", 2, two.as_str())], "x", ""));
    let seen = read(&reader).await;
    assert_eq!(seen.stock.unwrap().retained, 2);
    let run = &seen.runs[0];
    assert_eq!((run.id.as_str(), run.seconds(), run.node.as_deref()), ("b", Some(1800.0), Some("mongo-1:27017")));
    assert_eq!(read(&reader).await, seen);

    let three = ended(3);
    write("list", answer_of(&[("a", 1, ""), ("b", 2, ""), ("c", 3, "")], "y", ""));
    write("detail", answer_of(&[("c", 3, three.as_str())], "y", ""));
    let seen = read(&reader).await;
    assert!(seen.runs.iter().all(|run| run.seconds() == Some(1800.0)), "{:?}", seen.runs);
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let last = |n: u8| format!("list --last={n} --format={{end}}{{hostname}} --json --bypass-lock");
    let list = "list --json --bypass-lock";
    assert_eq!(calls.lines().collect::<Vec<_>>(), [list, &last(2), list, list, &last(1)]);
}

#[tokio::test]
async fn sizes_are_asked_for_when_the_repository_changed() {
    let (folder, reader) = fake("stats = true\narchives = \"db-*\"");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("list", answer_of(&[("a", 1, "")], "x", ""));
    let more =
        ",\"end\":\"2026-01-01T01:00:09\",\"duration\":8.5,\"stats\":{\"original_size\":90,\"deduplicated_size\":7}";
    write("info", answer_of(&[("a", 1, more)], "x", ",\"cache\":{\"stats\":{\"unique_csize\":77}}"));
    let seen = read(&reader).await;
    let run = &seen.runs[0];
    assert_eq!((run.seconds(), run.size, run.uncompressed), (Some(8.5), Some(7), Some(90)));
    assert_eq!(seen.stock.unwrap().bytes, Some(77));
    read(&reader).await;
    // Something else was deleted.
    write("list", answer_of(&[("a", 1, "")], "y", ""));
    read(&reader).await;
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let (list, info) =
        ("list --json --bypass-lock --glob-archives=db-*", "info --last=1 --json --bypass-lock --glob-archives=db-*");
    assert_eq!(calls.lines().collect::<Vec<_>>(), [list, info, list, list, info]);
}

#[tokio::test]
async fn checkpoints_among_the_newest_hide_no_archive() {
    let (folder, reader) = fake("stats = true");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let ended = |hour: u32| format!(",\"end\":\"2026-01-01T{hour:02}:30:00\",\"stats\":{{\"deduplicated_size\":7}}");
    let (one, two) = (ended(1), ended(2));
    write("list", answer_of(&[("a", 1, "")], "x", ""));
    write("checkpoint", answer_of(&[("checkpoint", 2, two.as_str())], "x", ""));
    write("info", answer_of(&[("a", 1, one.as_str()), ("checkpoint", 2, two.as_str())], "x", ""));
    write("first", "case \"$*\" in *--last=1\\ *) cat checkpoint; exit;; esac".to_owned());
    let seen = read(&reader).await;
    let runs: Vec<_> = seen.runs.iter().map(|run| (run.id.as_str(), run.size)).collect();
    assert_eq!((runs, seen.notes), (vec![("a", Some(7))], Vec::new()));
}

#[tokio::test]
async fn sizes_that_cannot_be_asked_for_keep_back_no_run() {
    let (folder, reader) = fake("stats = true");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let more = ",\"end\":\"2026-01-01T01:30:00\",\"stats\":{\"deduplicated_size\":7}";
    write("list", answer_of(&[("a", 1, "")], "x", ""));
    write("info", answer_of(&[("a", 1, more)], "x", ",\"cache\":{\"stats\":{\"unique_csize\":77}}"));
    assert_eq!(read(&reader).await.stock.unwrap().bytes, Some(77));

    write("first", "case \"$*\" in info*) echo 'no space left' >&2; exit 2;; esac".to_owned());
    write("list", answer_of(&[("a", 1, ""), ("b", 2, "")], "y", ""));
    write("detail", answer_of(&[("b", 2, ",\"end\":\"2026-01-01T02:30:00\"")], "y", ""));
    let seen = read(&reader).await;
    let run = &seen.runs[0];
    assert_eq!((run.id.as_str(), run.seconds(), run.size), ("b", Some(1800.0), None));
    assert_eq!(seen.stock.unwrap().bytes, Some(77), "as it was");
    assert!(seen.notes[0].starts_with("sizes are not known: ") && seen.notes[0].contains("no space left"), "{seen:?}");

    fs::remove_file(folder.path().join("first")).unwrap();
    write("info", answer_of(&[("b", 2, more)], "y", ",\"cache\":{\"stats\":{\"unique_csize\":99}}"));
    let seen = read(&reader).await;
    assert_eq!((seen.stock.unwrap().bytes, seen.notes), (Some(99), Vec::new()), "it is asked again");
}

#[tokio::test]
async fn sizes_of_all_that_lack_them_are_asked_for_again_and_not_for_ever() {
    let (folder, reader) = fake("stats = true");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let ended = |hour: u32| format!(",\"end\":\"2026-01-01T{hour:02}:30:00\"");
    let sized = |hour: u32| format!("{},\"stats\":{{\"deduplicated_size\":{hour}}}", ended(hour));
    let (one, two, three) = (ended(1), ended(2), sized(3));
    let archives = [("a", 1, one.as_str()), ("b", 2, two.as_str()), ("c", 3, three.as_str())];
    write("list", answer_of(&archives, "x", ""));
    write("detail", answer_of(&archives, "x", ""));
    write("first", "case \"$*\" in info*) echo 'no space left' >&2; exit 2;; esac".to_owned());
    assert_eq!(read(&reader).await.runs.len(), 3);
    fs::remove_file(folder.path().join("first")).unwrap();
    let two = sized(2);
    let bytes = ",\"cache\":{\"stats\":{\"unique_csize\":99}}";
    // Of one it never says how large it is.
    write("info", answer_of(&[("b", 2, two.as_str()), archives[2]], "x", bytes));
    for _ in 0..3 {
        let sizes: Vec<_> = read(&reader).await.runs.into_iter().map(|run| run.size).collect();
        assert_eq!(sizes, [Some(3), Some(2), None]);
    }
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    let infos: Vec<_> = calls.lines().filter_map(|call| call.strip_prefix("info --last=")?.split(' ').next()).collect();
    assert_eq!(infos, ["3", "3", "11"]);
}

#[tokio::test]
async fn the_room_that_archives_took_before_a_restart_stays() {
    let (folder, shared) = (tempfile::tempdir().unwrap(), Shared::default());
    let held = Held::of(&Seen { stock: Some(Stock { bytes: Some(5), ..Stock::default() }), ..Seen::default() });
    let event = Event::Held { at: 1.0, held: Box::new(held) };
    Ledger::of(&shared).commit(&shared.state, "job", Unwritten::Enter, |_| vec![event]).unwrap().1.unwrap();
    fs::write(folder.path().join("list"), answer_of(&[], "x", "")).unwrap();
    let bytes = async |keys: &str| read(&fake_in(folder.path(), keys, &shared)).await.stock.unwrap().bytes;
    // There is no `info`.
    assert_eq!(bytes("stats = true").await, Some(5));
    assert_eq!(bytes("stats = false").await, None);
}

#[tokio::test]
async fn it_has_folders_that_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(at("state")).unwrap();
    fs::write(at("list"), answer_of(&[], "x", "")).unwrap();
    fs::write(at("base"), "/srv").unwrap();
    // Nobody can make anything in there, not even root.
    const NOWHERE: &str = "/proc";
    let folders = async |home: &str, state: &str, more: &str| {
        fs::write(at("home"), home).unwrap();
        let shared = Shared { state: State::of_daemon(), ..Shared::default() };
        shared.state.set_dir(Some(Path::new(state)));
        let keys = format!("environment = {{ HOME = {{ file = \"home\" }}{more} }}");
        read(&fake_in(folder.path(), &keys, &shared)).await;
        let noted = fs::read_to_string(at("folders")).unwrap();
        let (cache, security) = noted.trim_end_matches('\n').split_once(' ').unwrap();
        (cache.to_owned(), security.to_owned())
    };
    let state = at("state");
    let (cache, security) = (format!("{state}/borg/job"), format!("{state}/borg-security/job"));
    assert_eq!(folders(NOWHERE, &state, "").await, (cache.clone(), security));
    assert_eq!(folders(&at(""), &state, "").await, (cache.clone(), String::new()), "the user's own");
    let base = ", BORG_BASE_DIR = { file = \"base\" }";
    assert_eq!(folders(NOWHERE, &state, base).await, (cache, String::new()), "what the configuration says");
    let (cache, security) = folders(NOWHERE, NOWHERE, "").await;
    let (cache, security) = (Path::new(&cache), Path::new(&security));
    assert!(cache.starts_with(std::env::temp_dir()) && cache.parent() == security.parent(), "{cache:?} {security:?}");
    assert!(!cache.parent().unwrap().exists(), "gone with the reading");
}

#[test]
fn its_words_are_understood() {
    for (said, reason) in [
        (
            "passphrase supplied in BORG_PASSPHRASE, by BORG_PASSCOMMAND or via BORG_PASSPHRASE_FD is incorrect.",
            Some(Reason::Auth),
        ),
        ("can not acquire a passphrase: BORG_PASSPHRASE is not set.", Some(Reason::Auth)),
        ("Failed to create/acquire the lock /srv/lock.exclusive (timeout).", Some(Reason::Overload)),
        ("Cache initialization aborted", Some(Reason::Rejected)),
        ("Repository /srv does not exist.", None),
    ] {
        assert_eq!(classify(Some(2), said), reason, "{said}");
    }
}
