//! The command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output, Stdio};

use lab::mongodb::Standalone;
use lab::net::Refused;

use crate::mongodb::probe;
use crate::support::{Midwatch, Place, midwatch, program};

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn check_finds_every_problem_of_every_file() {
    let place = Place::new();
    let good = place.write("good.toml", "[probe.mongodb.a]\nhosts = [\"db1\"]\n");
    let bad = place.write("bad.toml", "[server]\nlisten = 1\n\n[probe.mongodb.a]\nhosts = []\n  colour = 1\n");
    let worse = place.write("worse.toml", "[probe\n");
    let path = |file: &std::path::Path| file.to_str().unwrap().to_owned();

    let output = midwatch(&["check", &path(&good)]);
    assert_eq!((output.status.code(), out(&output)), (Some(0), &*format!("{}: no problems, probes: 1\n", path(&good))));
    assert_eq!(err(&output), "");

    let output = midwatch(&["check", &path(&bad), &path(&good), &path(&worse), "/no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(64));
    let lines: Vec<_> = err(&output).lines().collect();
    let places = [
        format!("{}:2:10: server: ", path(&bad)),
        format!("{}:5:1: probe.mongodb.a: `hosts`: ", path(&bad)),
        format!("{}:6:3: probe.mongodb.a: unknown field `colour`", path(&bad)),
        format!("{}:1:7: not TOML: ", path(&worse)),
        "/no/such/file.toml:1:1: cannot read the file: it does not exist".to_owned(),
    ];
    assert_eq!(lines.len(), places.len(), "{lines:#?}");
    for (line, place) in lines.iter().zip(&places) {
        assert!(line.starts_with(place), "{place} in {line}");
    }
}

#[test]
fn check_without_secrets_misses_none_and_shows_none() {
    let place = Place::new();
    let with = |password: &str| {
        let rest = format!("username = \"u\"\npassword = {password}\ntls.ca_file = \"ca.pem\"");
        place.write("midwatch.toml", &probe("a", &["db1".to_owned()], &rest)).to_str().unwrap().to_owned()
    };
    for password in ["{ file = \"missing\" }", "{ env = \"MIDWATCH_TEST_THAT_IS_NOT_SET\" }"] {
        let file = with(password);
        let output = midwatch(&["check", "--without-secrets", &file]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let output = midwatch(&["check", &file]);
        assert_eq!(output.status.code(), Some(64));
        assert_eq!(err(&output).lines().count(), 2, "{}", err(&output));
    }
    let output = midwatch(&["check", "--without-secrets", &with("\"hunter2\"")]);
    assert_eq!(output.status.code(), Some(64));
    assert!(err(&output).contains("a secret is not written in the configuration"), "{}", err(&output));
    assert!(!err(&output).contains("hunter2"), "{}", err(&output));
}

#[test]
fn an_unknown_probe_is_told_the_known_ones() {
    let place = Place::new();
    let text = ["orders", "users"].map(|name| probe(name, &["db1".to_owned()], "")).concat();
    let file = place.write("midwatch.toml", &text);
    for (kind, name) in [("mongodb", "order"), ("mongo", "orders")] {
        let output = midwatch(&["probe", kind, name, "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(64));
        let said = err(&output);
        assert!(said.contains("mongodb orders, mongodb users") && said.lines().count() == 1, "{said}");
    }
}

/// The last two columns of a probe's line.
fn predicted(table: &str, probe: &str) -> (usize, usize) {
    let line = table.lines().find(|line| line.starts_with(&format!("{probe} "))).unwrap();
    let columns: Vec<_> = line.split_whitespace().rev().take(2).map(|column| column.parse().unwrap()).collect();
    (columns[1], columns[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prediction_is_no_less_and_little_more_than_what_is_exposed() {
    let (server, refused) = (Standalone::start().await.unwrap(), Refused::pick().unwrap());
    let rhythm = "interval = \"300ms\"\n";
    let slo = "slo = { objective = 0.99, latency = \"20ms\" }\nbuckets = [0.001, 0.1]\n";
    let text = [
        probe("standalone", &[server.host()], rhythm),
        probe("with-slo", &[server.host()], &format!("{rhythm}{slo}")),
        probe("refused", &[refused.address().to_string()], rhythm),
    ]
    .concat();
    let daemon = Midwatch::start(&text).await;
    let output = midwatch(&["metrics", "--config", daemon.config().to_str().unwrap()]);
    assert!(output.status.success(), "{}", err(&output));
    let (_, text) = {
        daemon
            .until("runs of all", |m| {
                let runs: Vec<_> = m.all("midwatch_probe_runs_total", &[]).map(|sample| sample.value).collect();
                (runs.len() == 3 && runs.iter().all(|runs| *runs >= 2.0)).then_some(())
            })
            .await;
        daemon.request("GET", "/metrics").await.unwrap()
    };
    let mut all = (0, 0);
    for name in ["standalone", "with-slo", "refused"] {
        let label = format!("probe=\"{name}\"");
        let lines: Vec<_> = text.lines().filter(|line| line.contains(&label)).collect();
        let actual = (lines.len(), lines.iter().map(|line| line.len() + 1).sum::<usize>());
        let predicted = predicted(out(&output), &format!("mongodb.{name}"));
        assert!(predicted.0 >= actual.0, "{name}: predicted {predicted:?}, exposed {actual:?}");
        all = (all.0 + predicted.0, all.1 + predicted.1);
        if name != "refused" {
            // What nobody can know beforehand: which gauges this deployment has, and how long numbers are.
            assert!(predicted.0 - actual.0 <= 4, "{name}: predicted {predicted:?}, exposed {actual:?}");
            assert!(
                predicted.1.abs_diff(actual.1) * 20 <= actual.1,
                "{name}: predicted {predicted:?}, exposed {actual:?}"
            );
        }
    }
    assert_eq!(predicted(out(&output), "total"), all);
}

#[test]
fn help_shows_examples() {
    for arguments in
        [&["--help"][..], &["run", "--help"], &["check", "--help"], &["probe", "--help"], &["metrics", "--help"]]
    {
        let output = midwatch(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let help = out(&output);
        let examples =
            help.split_once("Examples:").unwrap_or_else(|| panic!("{arguments:?} has no examples: {help}")).1;
        assert!(examples.contains("midwatch "), "{arguments:?}: {help}");
    }
    let output = midwatch(&["--version"]);
    assert_eq!(out(&output), format!("midwatch {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_64_and_a_sentence() {
    let place = Place::new();
    let good = place.write("good.toml", "# nothing\n").to_str().unwrap().to_owned();
    let cases: &[&[&str]] = &[
        &[],
        &["watch"],
        &["run"],
        &["run", "--config"],
        &["run", "--config", "/no/such/file.toml"],
        &["run", "--config", &good, "--listen", "1"],
        &["run", "--config", &good, "--log-level", "loud=very"],
        &["run", "--config", &good, "--log-format", "xml"],
        &["run", "--config", &good, "more"],
        &["check"],
        &["check", "/"],
        &["probe", "mongodb"],
        &["probe", "mongodb", "a"],
        &["probe", "mongodb", "a", "--config", &good],
        &["metrics", "--config", "/no/such/file.toml"],
    ];
    for arguments in cases {
        let output = midwatch(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
        assert!(err(&output).len() > 10 && !err(&output).contains("panic"), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_without_a_panic() {
    let (bad, config) = (OsStr::from_bytes(b"\xff\xfe"), OsString::from("MIDWATCH_CONFIG"));
    let words: &[&[&OsStr]] = &[
        &[bad],
        &["check".as_ref(), bad],
        &["run".as_ref(), "--config".as_ref(), bad],
        &["run".as_ref()],
        &["metrics".as_ref(), "--config".as_ref(), bad],
        &["probe".as_ref(), bad, bad],
        &["--log-level".as_ref(), bad, "check".as_ref(), "x".as_ref()],
        &["--log-format".as_ref(), bad, "check".as_ref(), "x".as_ref()],
    ];
    for words in words {
        let output = Command::new(program()).args(*words).env(&config, bad).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {said}");
        assert!(said.len() > 10 && !said.contains("panic"), "{words:?}: {said}");
    }
    // A secret that is no text, in a variable that a file names; and variables that nobody asked for.
    let place = Place::new();
    let file = place.write(
        "midwatch.toml",
        &probe("a", &["db1".to_owned()], "username = \"u\"\npassword = { env = \"MIDWATCH_TEST_SECRET\" }"),
    );
    let mut check = Command::new(program());
    check.arg("check").arg(&file).env("MIDWATCH_TEST_SECRET", bad).env(bad, bad).env("HOME", bad).env("RUST_LOG", bad);
    let output = check.env_remove("XDG_STATE_HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(err(&output).contains("the secret is not UTF-8"), "{}", err(&output));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let output = Command::new("sh").args(["-c", "\"$0\" metrics | head -n 1", program().to_str().unwrap()]).output();
    let output = output.unwrap();
    assert_eq!((out(&output), err(&output)), ("# Metrics\n", ""));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(program()).arg("metrics").stdin(Stdio::null()).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("cannot write the output: "), "{}", err(&output));
}
