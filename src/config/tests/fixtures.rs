//! Bad configurations, each with its exact message, and the promise that no message repeats a value.

use std::fs;
use std::path::Path;

use super::support::{KINDS, World, fixtures, probe};
use crate::config::Loader;
use crate::probe::Shared;

/// Every `*.toml` of the folder with its `*.expected`, which is empty for a good one. `MIDWATCH_BLESS=1` writes them.
#[test]
fn every_fixture_gives_its_exact_message() {
    let mut seen = 0;
    let mut wrong = String::new();
    for entry in fs::read_dir(fixtures()).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let found = match Loader::check(&path, KINDS, &Shared::default(), false) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string().replace(&format!("{}/", fixtures().display()), ""),
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("MIDWATCH_BLESS").is_some() {
            fs::write(&expected, &found).expect("written");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if found != expected {
            wrong.push_str(&format!("{}:\nexpected\n{expected}found\n{found}\n", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen >= 25, "only {seen} fixtures");
}

#[test]
fn three_bad_values_and_two_unknown_keys_are_five_problems() {
    let problems = Loader::check(&fixtures().join("five.toml"), KINDS, &Shared::default(), false).expect_err("bad");
    assert_eq!(problems.len(), 5, "{problems}");
}

/// A marker as the value of every key, in every kind of value, is in no message.
#[test]
fn no_message_repeats_a_value() {
    let shapes = [
        "\"{}\"",
        "[\"{}\"]",
        "[[\"{}\"]]",
        "{ file = \"{}\" }",
        "{ env = \"{}\" }",
        "{ {} = 1 }x",
        "\"{}",
        "{}",
        "{ file = 1, env = \"{}\" }",
        "'''{}",
        "[1, {}]",
        "\"\\{}\"",
        "\"mongodb://u:{}@h\"",
        "{ objective = \"{}\", latency = \"{}\" }",
        "{ a = \"{}\", probe = \"{}\" }",
        "{ start = \"{}\", factor = \"{}\", count = \"{}\", max_buckets = \"{}\", zero_threshold = \"{}\" }",
        "0x{}",
        "1.{}",
    ];
    let keys = [
        (
            "[server]",
            &["listen", "admin_listen", "state_dir", "log_level", "shutdown_grace", "web_config_file", "unknown"][..],
        ),
        ("[defaults]", &["interval", "timeout", "owner", "slo", "buckets", "native", "runbook"]),
        ("[[include]]", &["files", "secret_dirs", "types"]),
        ("", &["labels", "server", "defaults", "include", "probe", "unknown"]),
        ("[probe.made]", &["x"]),
        (
            "[probe.made.x]",
            &[
                "hosts", "target", "count", "limit", "wait", "ratio", "verbose", "password", "ca_file", "word",
                "interval", "timeout", "owner", "runbook", "info", "labels", "slo", "buckets", "native", "require",
                "enabled", "unknown",
            ],
        ),
    ];
    const MARKER: &str = "hunter2marker";
    let mut bad = 0;
    for (header, keys) in keys {
        for key in keys {
            for shape in shapes {
                let world = World::new(&format!("{header}\n{key} = {}\n", shape.replace("{}", MARKER)));
                if let Err(problems) = world.check(false) {
                    bad += 1;
                    // A key's name may be shown, and one shape has the marker for a key.
                    assert!(
                        shape.contains("{ {}") || !problems.contains(MARKER),
                        "{header} {key} = {shape}: {problems}"
                    );
                }
            }
        }
    }
    assert!(bad > 400, "{bad}");
}

#[test]
fn odd_files_get_one_clear_problem() {
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let table: &[Case<'_>] = &[
        ("missing", &|_| (), "1:1: cannot read the file: it does not exist"),
        (
            "a directory",
            &|path| fs::create_dir(path).unwrap(),
            "1:1: cannot read the file: it is a directory, not a file",
        ),
        ("a pipe", &fifo, "1:1: cannot read the file: it is not a regular file"),
        (
            "a socket",
            &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
            "1:1: cannot read the file: it is not a regular file",
        ),
        (
            "50 MB",
            &|path| fs::File::create(path).unwrap().set_len(50 << 20).unwrap(),
            "1:1: cannot read the file: it is larger than 8 MiB",
        ),
        (
            "empty",
            &|path| fs::write(path, "").unwrap(),
            "1:1: the file is empty; a file without probes holds at least a comment",
        ),
        (
            "blank",
            &|path| fs::write(path, " \n\n").unwrap(),
            "1:1: the file is empty; a file without probes holds at least a comment",
        ),
        (
            "NUL",
            &|path| fs::write(path, "# ä\nä\0").unwrap(),
            "2:2: the file contains a NUL byte; it is not text, or was only half written",
        ),
        ("Latin-1", &|path| fs::write(path, b"[labels]\na = \"\xe4\"").unwrap(), "2:6: the file is not UTF-8 text"),
        (
            "half",
            &|path| fs::write(path, "[probe.made.x]\nhosts = [\"db1\"").unwrap(),
            "2:15: not TOML: unclosed array, expected `]`",
        ),
    ];
    for (what, make, expected) in table {
        for name in ["midwatch.toml", "conf.d/a.toml"] {
            if *what == "missing" && name != "midwatch.toml" {
                continue;
            }
            let world = World::new("[[include]]\nfiles = \"conf.d/*.toml\"\n");
            if name == "midwatch.toml" {
                world.remove(name);
            }
            make(&world.path(name));
            let problems = world.check(false).expect_err(what);
            assert_eq!(problems, format!("{name}:{expected}\n"), "{what}");
        }
    }
}

fn fifo(path: &Path) {
    let path = path.to_str().expect("UTF-8");
    assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

#[test]
fn byte_order_mark_crlf_and_comments_only_are_fine() {
    for text in ["\u{feff}[probe.made.x]\r\nhosts = [\"db1\"]\r\n", "# nothing yet\n", "[probe]\n", "\u{feff}# x"] {
        World::new(text).check(false).expect(text);
    }
    let world = World::new("\u{feff}[probe.made.x]\r\nhots = [\"db1\"]\r\n");
    let problems = world.check(false).expect_err("a typo");
    assert!(
        problems.contains("midwatch.toml:2:1: probe.made.x: unknown field `hots`, did you mean `hosts`?"),
        "{problems}"
    );
    assert!(problems.contains("midwatch.toml:1:1: probe.made.x: missing field `hosts`"), "{problems}");
}

#[test]
fn garbage_of_full_size_is_answered_soon() {
    for line in ["=\n", "a\n", "[x]\n", "\"", "[", "{", "a = 1\n", "a.a = {", "é"] {
        let world = World::new(&line.repeat((8 << 20) / line.len()));
        let start = tokio::time::Instant::now();
        let problems = world.check(false).expect_err(line);
        assert!(problems.len() < 1 << 20, "{}", problems.len());
        assert!(start.elapsed().as_secs() < 60, "{line:?}: {:?}", start.elapsed());
    }
}

#[test]
fn a_secret_is_checked_without_its_file_when_asked_to() {
    let text = format!("{}password = {{ file = \"secrets/p\" }}\nca_file = \"secrets/ca\"\n", probe("x"));
    let mut world = World::new(&text);
    assert_eq!(
        world.check(false).expect_err("no file"),
        "midwatch.toml:3:12: probe.made.x: `password`: cannot read the file: it does not exist\n\
         midwatch.toml:4:11: probe.made.x: `ca_file`: cannot read the file: it does not exist\n"
    );
    world.check(true).expect("without secrets");
    world.write("secrets/p", "x\r\n");
    world.write("secrets/ca", "ca");
    world.good();
    world.write("secrets/p", "\n");
    assert!(world.check(true).expect_err("empty").contains("the secret is empty"));
    world.write("secrets/p", vec![b'x'; (1 << 20) + 1]);
    assert!(world.check(true).expect_err("large").contains("it is larger than 1 MiB"));
}
