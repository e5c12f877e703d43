use std::path::Path;

use super::*;
use crate::probe::backup::books::Event;
use crate::probe::backup::held::Held;
use crate::probe::backup::ledger::{Ledger, Unwritten};
use crate::probe::backup::runs::Stock;
use crate::probe::testing::config;
use crate::settings::{Files, Settings};

fn read(json: &str) -> Listed<Snapshot> {
    snapshots(&mut json.as_bytes()).unwrap()
}

fn seed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/repository_listing").join(name);
    std::fs::read_to_string(path).unwrap()[1..].to_owned()
}

#[test]
fn a_snapshot_of_an_old_restic_ended_when_it_was_taken() {
    let listed = read(&seed("restic_0_14_snapshots"));
    assert_eq!((listed.stock.retained, listed.stock.oldest), (2, Some(1_795_290_010.772_366)));
    let [new, old] = &listed.runs[..] else { panic!("{:?}", listed.runs) };
    assert_eq!(
        (&old.id[..8], old.started, old.seconds()),
        ("41c86b7e", None, None),
        "the id that it had before it was tagged"
    );
    assert_eq!((&new.id[..8], new.end.unwrap().outcome), ("42a01ee6", Outcome::Success));
    assert_eq!((new.end.unwrap().at, new.size, listed.stock.bytes), (1_795_290_011.601_811, None, None));
    assert_eq!(read(&seed("restic_0_14_none")).stock.retained, 0);
    assert_eq!(stats(&mut seed("restic_0_14_stats").as_bytes()).unwrap(), 200_666);
}

/// As the documentation of 0.17 has it.
#[test]
fn a_snapshot_with_a_summary_says_how_long_it_took() {
    let listed = read(&seed("restic_0_17_summary"));
    let run = &listed.runs[0];
    assert!((run.seconds().unwrap() - 60.2).abs() < 1e-6, "{run:?}");
    assert_eq!((run.size, run.uncompressed), (Some(196_123), Some(200_006)));
}

#[test]
fn a_long_history_is_cut_to_its_newest() {
    let snapshot = |at: usize| format!("{{\"id\":\"{at}\",\"time\":\"2026-01-01T00:00:00.{:06}Z\"}}", 100_000 - at);
    let all: Vec<_> = (0..10_000).map(snapshot).collect();
    let listed = read(&format!("[{}]", all.join(",")));
    assert_eq!(listed.stock.retained, 10_000);
    assert!(listed.runs.len() < 5_000 && listed.runs[0].id == "0", "{}", listed.runs.len());
}

#[test]
fn what_is_no_listing_is_refused() {
    for bad in [
        "",
        "{}",
        "[1]",
        "[{}]",
        "[{\"id\":\"a\",\"time\":\"now\"}]",
        "[{\"id\":\"\",\"time\":\"2026-01-01T00:00:00Z\"}]",
        "[] x",
    ] {
        assert!(snapshots(&mut bad.as_bytes()).is_err(), "{bad}");
    }
}

impl Settings for Config {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Self::read(section)
    }
}

#[test]
fn no_secret_is_an_argument() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "canary-4711").unwrap();
    std::fs::write(folder.path().join("url"), "rest:https://u:canary-0815@h/").unwrap();
    let read = |keys: &str| config::<Config>(folder.path(), keys, &Files::new(false));
    let good = "repository = { file = \"url\" }\npassword = { file = \"pw\" }\nhosts = [\"h1\", \"--x\"]\ntags = [\"a\"]\npaths = [\"/srv\"]\nnodes = { h1 = \"mongo-1:27017\" }";
    let config = read(good).unwrap();
    let call = config.call(&["snapshots"]);
    let arguments = ["snapshots", "--json", "--no-lock", "--host=h1", "--host=--x", "--tag=a", "--path=/srv"];
    assert_eq!(call.arguments, arguments);
    assert!(call.variables.is_empty());
    let secrets: Vec<_> = call.secrets.iter().map(|(name, secret)| (*name, secret.expose())).collect();
    assert_eq!(secrets, [("RESTIC_PASSWORD", "canary-4711"), ("RESTIC_REPOSITORY", "rest:https://u:canary-0815@h/")]);
    assert!(!format!("{config:?}").contains("canary"));

    let problems = |keys: &str| read(keys).map(|_| ()).unwrap_err().join("\n");
    let of_url = problems("repository = \"rest:https://u:canary@h/\"\npassword = { file = \"pw\" }");
    assert!(of_url.contains("the URL has a password in it") && !of_url.contains("canary"), "{of_url}");
    assert!(problems("repository = \"/srv\"").contains("missing field `password`"));
    assert!(problems(&format!("{good}\nnode = \"x\"")).contains("unknown field `node`"));
    assert!(problems("password = { file = \"pw\" }").contains("missing field `repository`"));
    read("repository = \"sftp://u@h/srv\"\nenvironment = { RESTIC_PASSWORD = { file = \"pw\" } }").unwrap();
}

#[test]
fn its_words_are_understood() {
    for (status, said, reason) in [
        (1, "Fatal: wrong password or no key found", Some(Reason::Auth)),
        (1, "Fatal: an empty password is not a password", Some(Reason::Auth)),
        (12, "", Some(Reason::Auth)),
        (10, "Fatal: repository does not exist", Some(Reason::Rejected)),
        (11, "", Some(Reason::Overload)),
        (1, "Fatal: unable to open config file: stat /none/config: no such file or directory", None),
    ] {
        assert_eq!(classify(Some(status), said), reason, "{said}");
    }
}

#[tokio::test]
async fn the_size_is_asked_for_when_snapshots_changed_and_keeps_back_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let script = "cd \"$(dirname \"$0\")\"; echo \"$1\" >>calls\ncase $1 in stats) . ./stats;; *) cat list;; esac";
    lab::script(&folder.path().join("restic"), script).unwrap();
    write("pw", "canary-4711");
    let keys = format!(
        "program = \"{}\"\nrepository = \"/srv\"\npassword = {{ file = \"pw\" }}\nstats = true",
        folder.path().join("restic").display()
    );
    let config: Config = config(folder.path(), &keys, &Files::new(false)).unwrap();
    let shared = Shared::default();
    let new = || Reader::new(&config, "job", &shared).unwrap();
    let mut reader = new();
    let read = async |reader: &Reader| {
        let ends = Instant::now() + std::time::Duration::from_secs(60);
        let seen = reader.read(Look { now: 0.0, ends, open: &[] }).await.unwrap();
        (seen.runs[0].id.clone(), seen.stock.unwrap().bytes, seen.notes.join("\n"))
    };
    let calls = || std::fs::read_to_string(folder.path().join("calls")).unwrap().matches("stats").count();
    let list = |id: &str| format!("[{{\"id\":\"{id}\",\"original\":\"a\",\"time\":\"2026-01-01T00:00:00Z\"}}]");

    write("list", &list("a"));
    write("stats", "echo 'no space left' >&2; exit 1");
    let (id, bytes, notes) = read(&reader).await;
    assert_eq!((id.as_str(), bytes), ("a", None));
    assert!(notes.starts_with("the size of the repository is not known: ") && notes.contains("no space"), "{notes}");
    write("stats", "echo '{\"total_size\": 5}'");
    assert_eq!(read(&reader).await, ("a".to_owned(), Some(5), String::new()));
    read(&reader).await;
    assert_eq!(calls(), 2);
    // Rewritten: the backup is the same one, and what is stored of it is not.
    write("list", &list("b"));
    write("stats", "echo '{\"total_size\": 3}'");
    assert_eq!(read(&reader).await, ("a".to_owned(), Some(3), String::new()));
    write("list", &list("c"));
    write("stats", "exit 1");
    assert_eq!(read(&reader).await.1, Some(3), "as it was");

    // As the books have it after a restart.
    let held = Held::of(&Seen { stock: Some(Stock { bytes: Some(3), ..Stock::default() }), ..Seen::default() });
    let event = Event::Held { at: 1.0, held: Box::new(held) };
    Ledger::of(&shared).commit(&shared.state, "job", Unwritten::Enter, |_| vec![event]).unwrap().1.unwrap();
    reader = new();
    assert_eq!(read(&reader).await.1, Some(3), "as it was before");
    write("stats", "echo '{\"total_size\": 4}'");
    assert_eq!(read(&reader).await.1, Some(4));
}
