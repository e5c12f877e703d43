use std::fs::{self, File};
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::probe::backup::Backup;
use crate::probe::testing::Bench;

const TIME: Duration = Duration::from_secs(5);
const SUCCESS: &str = "midwatch_backup_runs_total";

/// What the times in a text are to begin with, instead of `1795000`: a run that began long ago and goes on counts as lost.
static THOUSANDS: LazyLock<u64> =
    LazyLock::new(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 1000 - 3);

/// So many seconds after the moment that `1795000000` stands for.
fn lately(seconds: f64) -> f64 {
    *THOUSANDS as f64 * 1000.0 + seconds
}

/// Writes the file as if that had been a minute ago.
fn write(path: &Path, text: &str) {
    fs::write(path, text.replace("1795000", &THOUSANDS.to_string())).unwrap();
    let then = SystemTime::now() - Duration::from_secs(60);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

fn bench(path: &Path, rest: &str) -> Bench<Backup> {
    Bench::new(&format!("source = 'textfile'\npath = '{}'\n{rest}", path.display()))
}

#[tokio::test]
async fn a_script_tells_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.prom");
    write(&path, "backup_end_timestamp_seconds 1795000000\n");
    let bench = bench(&path, "");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(SUCCESS, "outcome=success"), 0.0, "it ended before anybody watched");
    assert_eq!(bench.sum("midwatch_backup_last_success_timestamp_seconds", ""), lately(0.0));

    write(
        &path,
        "# HELP x y\nbackup_start_timestamp_seconds{node=\"db-1:27017\"} 1795000100.5\nbackup_end_timestamp_seconds{node=\"db-1:27017\"} 0\n",
    );
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_running", "node=db-1:27017"), 1.0);
    assert_eq!(bench.sum("midwatch_backup_running_start_timestamp_seconds", ""), lately(100.5));

    let text = "backup_start_timestamp_seconds{node=\"db-1:27017\"} 1795000100.5\nbackup_end_timestamp_seconds{node=\"db-1:27017\"} 1795000400.5 1795000400500\n\
        backup_success{node=\"db-1:27017\"} 1\nbackup_size_bytes{node=\"db-1:27017\",} 1e9\nbackup_uncompressed_bytes{node=\"db-1:27017\"} NaN\nother 1\n";
    write(&path, text);
    for _ in 0..2 {
        bench.run(TIME).await.unwrap();
        assert_eq!(bench.sum(SUCCESS, "outcome=success"), 1.0);
        assert_eq!(bench.sum(SUCCESS, ""), 1.0, "nothing was lost");
    }
    assert_eq!(bench.sum("midwatch_backup_last_duration_seconds", ""), 300.0);
    assert_eq!(bench.sum("midwatch_backup_last_size_bytes", ""), 1e9);
    assert_eq!(bench.sum("midwatch_backup_running", "node=db-1:27017"), 0.0);

    write(&path, &text.replace("17950004", "17950005").replace("17950001", "17950004").replace("} 1\n", "} 0\n"));
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(SUCCESS, "outcome=failure"), 1.0);
    assert_eq!(bench.sum("midwatch_backup_last_run_success", ""), 0.0);
}

#[tokio::test]
async fn another_end_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.prom");
    let text = |end: u32| format!("backup_start_timestamp_seconds 1795000100\nbackup_end_timestamp_seconds {end}\n");
    write(&path, &text(0));
    let bench = bench(&path, "");
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum("midwatch_backup_runs_in_progress", ""), 1.0);
    // It tries again, and does not say that it began again.
    for (end, count) in [(1_795_000_200, 1.0), (1_795_000_300, 2.0), (1_795_000_400, 3.0)] {
        write(&path, &text(end));
        for _ in 0..2 {
            bench.run(TIME).await.unwrap();
            assert_eq!((bench.sum(SUCCESS, "outcome=success"), bench.sum(SUCCESS, "")), (count, count), "{end}");
        }
    }
    assert_eq!(bench.sum("midwatch_backup_runs_in_progress", ""), 0.0);
}

#[tokio::test]
async fn files_of_one_name_in_several_folders_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| folder.path().join(name).join("orders.prom"));
    for path in &paths {
        fs::create_dir(path.parent().unwrap()).unwrap();
        write(path, "backup_end_timestamp_seconds 1795000000\n");
    }
    let bench = bench(&folder.path().join("*/orders.prom"), "");
    bench.run(TIME).await.unwrap();
    for path in &paths {
        write(path, "backup_end_timestamp_seconds 1795000100\n");
    }
    bench.run(TIME).await.unwrap();
    assert_eq!(bench.sum(SUCCESS, "outcome=success"), 2.0);
    write(&paths[1], "backup_end_timestamp_seconds\n");
    let failure = bench.run(TIME).await.unwrap_err();
    assert!(failure.detail.starts_with("b/orders.prom: line 1"), "{failure}");
}

#[tokio::test]
async fn a_folder_that_hangs_takes_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.prom");
    write(&path, "backup_end_timestamp_seconds 1795000000\n");
    let config = Config { path, metrics: Vec::new(), select: Select::default() };
    let reader = Reader::new(&config, "job", &Shared::default()).unwrap();
    let look = || Look { now: 0.0, ends: tokio::time::Instant::now() + TIME, open: &[] };
    reader.read(look()).await.unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let hangs = tokio::time::timeout(Duration::ZERO, reader.memory.work(move |_| Ok(held.recv().is_ok())));
    assert!(hangs.await.is_err());
    assert_eq!(reader.read(look()).await.unwrap_err().reason, Reason::Timeout);
    drop(release);
}

#[tokio::test]
async fn a_torn_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.prom");
    let bench = bench(&path, "");
    assert_eq!(bench.run(TIME).await.unwrap_err().reason, Reason::Rejected, "there is none");
    write(&path, "backup_end_timestamp_seconds 1795000000\n");
    bench.run(TIME).await.unwrap();
    for torn in [
        "backup_end_timestamp_seconds 17950",
        "backup_end_timestamp_seconds\n",
        "backup_end_timestamp_seconds 1795000000000\n",
        "\u{0}\n",
    ] {
        write(&path, torn);
        assert_eq!(bench.run(TIME).await.unwrap_err().reason, Reason::Protocol, "{torn}");
        assert_eq!(bench.sum("midwatch_backup_source_up", ""), 0.0);
        assert_eq!(bench.sum("midwatch_backup_last_success_timestamp_seconds", ""), lately(0.0));
    }
    File::create(&path).unwrap().set_len(LARGEST as u64 + 1).unwrap();
    let failure = bench.run(TIME).await.map(drop);
    // It is young, and was good a moment ago; the next reading does not wait any more.
    let failure = failure.and(bench.run(TIME).await).unwrap_err();
    assert!(failure.detail.contains("larger than 1024 KiB"), "{failure}");
}

#[tokio::test]
async fn other_names_and_labels_are_chosen_by_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let text = "my_end{job=\"orders\"} 1795000000\nmy_end{job=\"users\"} 1795000500\nmy_ok{job=\"orders\"} 0\n";
    write(&folder.path().join("a.prom"), text);
    write(&folder.path().join("b.prom"), "my_end{job=\"orders\",node=\"b\"} 1795000100\n");
    write(&folder.path().join("c.other"), "}");
    let pattern = folder.path().join("*.prom");
    let names = "metrics = { end = 'my_end', success = 'my_ok' }\n";
    let both = bench(&pattern, names);
    let failure = both.run(TIME).await.unwrap_err();
    assert!(failure.detail.starts_with("a.prom: more than one series says `end`"), "{failure}");
    let one = bench(&pattern, &format!("{names}select = {{ job = 'orders' }}\n"));
    one.run(TIME).await.unwrap();
    assert_eq!(one.sum("midwatch_backup_last_failure_timestamp_seconds", ""), lately(0.0));
    assert_eq!(one.sum("midwatch_backup_last_success_timestamp_seconds", ""), lately(100.0));
}

type Read<'t> = Vec<(Vec<(&'t str, String)>, f64)>;

fn read(text: &str) -> Result<Read<'_>, String> {
    let mut samples = Vec::new();
    exposition::read(text.as_bytes(), |sample| samples.push((sample.labels, sample.value))).map(|()| samples)
}

#[test]
fn the_text_format_is_read_strictly() {
    let owned = |labels: &[(&'static str, &str)]| {
        labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(read("").unwrap(), []);
    assert_eq!(read("\n# anything {\n  a:b \t 1 \r\n").unwrap(), [(Vec::new(), 1.0)]);
    let good = read("a { b = \"\\\\ \\\" \\n , } é\" , c=\"\", } +Inf -3\n").unwrap();
    assert_eq!(good, [(owned(&[("b", "\\ \" \n , } é"), ("c", "")]), f64::INFINITY)]);
    assert_eq!(read("a{} 0x1p3\n").unwrap_err(), "line 1: the value is no number");
    for (text, problem) in [
        ("1a 1", "the name of a metric"),
        ("a", "no value"),
        ("a 1 1.5", "timestamp"),
        ("a 1 1 1", "more than"),
        ("a{b} 1", "no `=`"),
        ("a{b=c} 1", "not quoted"),
        ("a{b=\"c} 1", "no closing quote"),
        ("a{b=\"\\t\"} 1", "unknown escape"),
        ("a{b=\"\" c=\"\"} 1", "no `,`"),
        ("a{b=\"\",b=\"\"} 1", "twice"),
        ("a{,} 1", "no name"),
        ("a{b=\"\"", "no `,` or `}`"),
    ] {
        let said = read(&format!("{text}\n")).unwrap_err();
        assert!(said.contains(problem), "{text}: {said}");
        assert!(read(text).unwrap_err().contains("cut off"), "{text}");
    }
}

#[test]
fn bad_keys_are_refused() {
    for (keys, problem) in [
        ("", "missing field `path`"),
        ("path = '[a'", "not a pattern"),
        ("path = 'a'\nmetrics = { ende = 'x' }", "unknown"),
        ("path = 'a'\nselect = { job = 1 }", "a table of labels"),
        ("path = 'a'\nselect = { '1' = 'a' }", "a table of labels"),
    ] {
        let keys = format!("source = 'textfile'\n{keys}");
        let files = crate::settings::Files::new(false);
        let problems =
            crate::probe::testing::config::<crate::probe::backup::config::Config>(Path::new("/"), &keys, &files);
        let problems = problems.err().unwrap();
        assert!(problems.len() == 1 && problems[0].contains(problem), "{keys}: {problems:?}");
    }
}
