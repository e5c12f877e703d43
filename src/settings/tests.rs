//! What the tests beside the values do not reach: secrets and file contents as values.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{FileContent, Files, Problem, Rules, Secret, Section, Source, escape};

/// Reads the keys `a` and `b` of a main file in the folder.
fn read<T: super::Value>(dir: &Path, text: &str) -> (Option<T>, Option<T>) {
    let (file, files): (Arc<Path>, _) = (dir.join("m.toml").into(), Files::new(false));
    let source = Source::new(&file, text, Rules::Main, &files);
    let table = source.parse().expect("TOML");
    let mut root = Section::root(&source, table.get_ref());
    (root.optional("a"), root.optional("b"))
}

#[test]
fn secrets_are_compared_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "hunter2\r\n").unwrap();
    fs::write(dir.path().join("two"), "hunter2\n\n").unwrap();
    let (one, two) = read::<Secret>(dir.path(), "a = { file = \"one\" }\nb = { file = \"two\" }");
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.expose(), two.expose()), ("hunter2", "hunter2\n"), "only one line end is left out");
    assert!(one != two && one == one.clone() && !one.is_placeholder());
    assert_eq!(format!("{one:?}"), "Secret(…)");
    let (from_env, _) = read::<Secret>(dir.path(), "a = { env = \"PATH\" }");
    assert_eq!(from_env.unwrap().expose(), std::env::var("PATH").unwrap());
}

#[test]
fn file_contents_are_equal_by_content_and_read_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "hunter2").unwrap();
    fs::write(dir.path().join("two"), "hunter2").unwrap();
    let (one, two) = read::<FileContent>(dir.path(), "a = \"one\"\nb = \"two\"");
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert_eq!(one.bytes(), b"hunter2");
    assert!(!format!("{one:?}").contains("hunter2"));
    let files = Files::new(false);
    let first = files.read(&dir.path().join("one"), 100).unwrap();
    fs::write(dir.path().join("one"), "other").unwrap();
    assert!(Arc::ptr_eq(&first, &files.read(&dir.path().join("one"), 100).unwrap()));
}

/// A link that is changed between the check of where it leads and the reading must not lead elsewhere.
#[test]
fn what_was_checked_is_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("allowed"), "allowed").unwrap();
    fs::write(path("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("secret", path("link")).unwrap();
    let files = Files::new(false);
    let read = files.read_resolved(&path("link"), Ok(path("allowed")), 100).unwrap();
    assert_eq!(read.bytes(), b"allowed");
    // The link is what the configuration depends on, and it is not what was read.
    let seen = files.seen();
    assert!(matches!(&seen[..], [(link, seen)] if *link == path("link") && !Files::new(false).still(link, seen)));
    let missing = Files::new(false).read_resolved(&path("link"), Err(super::ReadError::Missing), 100);
    assert_eq!(missing.err(), Some(super::ReadError::Missing));
}

#[test]
fn problems_are_one_line_each() {
    let file: Arc<Path> = Path::new("a\nb.toml").into();
    assert_eq!(Problem::of_file(&file, "bad").to_string(), "a\\nb.toml:1:1: bad");
    assert_eq!(escape("a\nb`c\u{202e}"), "a\\u{a}b\\u{60}c\\u{202e}");
    assert_eq!(escape(&"é".repeat(70)).chars().count(), 65);
}
