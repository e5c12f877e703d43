//! Loading again and again: what changes, what stays, and what a bad file falls back on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use super::support::{World, generation, names, probe};
use crate::config::Loaded;
use crate::metrics::NativeRule;

const INCLUDE: &str = "[server]\nstate_dir = \"state\"\n[[include]]\nfiles = \"conf.d/*.toml\"\nsecret_dirs = [\"secrets\"]\ntypes = [\"made\"]\n";

#[test]
fn what_did_not_change_is_the_very_same_probe() {
    let mut world = World::new(&format!("{}{}", probe("a"), probe("b")));
    let first = world.good();
    assert_eq!(names(&first), ["a", "b"]);
    world.write(
        "midwatch.toml",
        format!("# moved\n{}interval = \"1s\"\n{}count = 2\n{}", probe("a"), probe("b"), probe("c")),
    );
    let second = world.good();
    assert_eq!(names(&second), ["a", "b", "c"]);
    assert!(Arc::ptr_eq(&first.probes[0].probe, &second.probes[0].probe), "common keys rebuild nothing");
    assert!(Arc::ptr_eq(&first.probes[0].config, &second.probes[0].config));
    assert_ne!(first.probes[0].common, second.probes[0].common);
    assert_eq!(["a", "b", "c"].map(|name| generation(&second, name)), [0, 1, 0], "a changed probe takes over");
    assert_ne!(first.hash, second.hash);
    assert!(first.hash < 1 << 48);
}

#[test]
fn a_load_without_changes_does_nothing_and_repeats_what_the_last_one_said() {
    let mut world = World::new(&format!("{INCLUDE}{}", probe("a")));
    world.write("conf.d/b.toml", "x = 1\n");
    let (_, first) = world.new_config();
    assert_eq!(first, "conf.d/b.toml:1:1: unknown field `x`, expected `probe`\n");
    let Loaded::Unchanged { problems, refused: false } = world.load() else { panic!("something changed") };
    assert_eq!(problems.len(), 1);
    world.write("midwatch.toml", "x");
    world.refused();
    assert!(matches!(world.load(), Loaded::Unchanged { refused: true, .. }));
    world.write("midwatch.toml", format!("{INCLUDE}{}", probe("a")));
    world.remove("conf.d/b.toml");
    world.good();
    assert!(matches!(world.load(), Loaded::Unchanged { refused: false, .. }));
}

#[test]
fn a_bad_main_file_changes_nothing_and_says_everything_of_all_files() {
    let mut world = World::new(&format!("{INCLUDE}{}", probe("a")));
    world.write("conf.d/b.toml", probe("b"));
    world.good();
    world.write("midwatch.toml", format!("{INCLUDE}{}count = true\n", probe("a")));
    world.write("conf.d/b.toml", format!("{}count = true\n", probe("b")));
    world.write("conf.d/c.toml", probe("c"));
    let problems = world.refused();
    let expected = "expected a whole number from 0 to 65535, found a boolean";
    assert_eq!(
        problems,
        format!(
            "conf.d/b.toml:3:9: probe.made.b: `count`: {expected}\nmidwatch.toml:9:9: probe.made.a: `count`: {expected}\n"
        )
    );
    world.write("midwatch.toml", format!("{INCLUDE}{}", probe("a")));
    let (config, _) = world.new_config();
    assert_eq!(names(&config), ["a", "b", "c"]);
}

#[test]
fn a_bad_included_file_keeps_its_last_good_version() {
    let mut world = World::new(INCLUDE);
    world.write("conf.d/a.toml", probe("a"));
    world.write("conf.d/b.toml", probe("b"));
    let first = world.good();
    world.write("conf.d/a.toml", format!("{}x = 1\n{}", probe("a"), probe("a2")));
    world.write("conf.d/b.toml", format!("{}{}", probe("b"), probe("b2")));
    let (config, problems) = world.new_config();
    assert!(problems.starts_with("conf.d/a.toml:3:1: probe.made.a: unknown field `x`"), "{problems}");
    assert_eq!(names(&config), ["a", "b", "b2"]);
    assert!(Arc::ptr_eq(&first.probes[0].probe, &config.probes[0].probe));
    assert_eq!(config.files.iter().map(|file| file.ok).collect::<Vec<_>>(), [true, false, true]);
    // Also at the next start, and at the one after it.
    for _ in 0..2 {
        world.restart();
        assert_eq!(names(&world.new_config().0), ["a", "b", "b2"]);
    }
    // What has gone is gone, here and in the state directory.
    world.remove("conf.d/a.toml");
    assert_eq!(names(&world.good()), ["b", "b2"]);
    world.write("conf.d/a.toml", "x = 1\n");
    world.restart();
    assert_eq!(names(&world.new_config().0), ["b", "b2"]);
}

#[test]
fn what_runs_goes_on_while_its_secret_is_missing() {
    let mut world = World::new(INCLUDE);
    world.write("secrets/p", "one");
    world.write("conf.d/a.toml", format!("{}password = {{ file = \"../secrets/p\" }}\n", probe("a")));
    world.good();
    world.remove("secrets/p");
    let (config, problems) = world.new_config();
    assert!(problems.contains("`password`: cannot read the file: it does not exist"), "{problems}");
    assert_eq!(generation(&config, "a"), 0);
    world.write("secrets/p", "two");
    assert_eq!(generation(&world.good(), "a"), 1, "a rotated secret is a change");
}

#[test]
fn a_secret_that_rotates_alone_is_a_change_of_its_probes_only() {
    let with = |name: &str, key: &str| format!("{}{key}\n", probe(name));
    let mut world = World::new(&format!(
        "{}{}{}",
        with("a", "password = { file = \"secrets/p\" }"),
        with("b", "ca_file = \"secrets/ca\""),
        probe("c")
    ));
    world.write("secrets/p", "one\n");
    world.write("secrets/ca", "one");
    let first = world.good();
    world.write("secrets/p", "one");
    let same = world.good();
    assert_eq!(["a", "b", "c"].map(|name| generation(&same, name)), [0, 0, 0], "a line end is no change");
    world.write("secrets/p", "two");
    let second = world.good();
    assert_eq!(["a", "b", "c"].map(|name| generation(&second, name)), [1, 0, 0]);
    world.write("secrets/ca", "two");
    let third = world.good();
    assert_eq!(["a", "b", "c"].map(|name| generation(&third, name)), [1, 1, 0]);
    assert_eq!(first.hash, second.hash, "the public hash tells nothing of secrets");
    let shown = second.redacted();
    assert!(shown.contains("password = { file = \"secrets/p\" }") && !shown.contains("two"), "{shown}");
}

#[test]
fn a_name_in_two_files_stays_with_its_running_owner() {
    let mut world = World::new(INCLUDE);
    world.write("conf.d/b.toml", probe("x"));
    world.good();
    world.write("conf.d/a.toml", format!("{}{}", probe("a"), probe("x")));
    let taken = "conf.d/a.toml:3:1: probe.made.x: conf.d/b.toml defines a probe of this type and name, too\n";
    let (config, problems) = world.new_config();
    assert_eq!((names(&config), problems.as_str()), (vec!["x"], taken));
    assert!(config.probes[0].file.ends_with("b.toml"));
    // The owner is known at the next start too, because only its file was ever good.
    world.restart();
    let (config, problems) = world.new_config();
    assert_eq!(names(&config), ["x"], "{problems}");
    assert!(config.probes[0].file.ends_with("b.toml"));
    // An owner that is bad otherwise still owns.
    world.write("conf.d/b.toml", "x = 1\n");
    let (config, problems) = world.new_config();
    assert_eq!(names(&config), ["x"], "{problems}");
    assert_eq!(problems.lines().count(), 2, "{problems}");
    // Moving works in one step.
    world.write("conf.d/b.toml", "# moved to a.toml\n");
    let config = world.good();
    assert_eq!(names(&config), ["a", "x"]);
    assert_eq!(generation(&config, "x"), 0);
}

#[test]
fn a_name_in_two_files_at_start_is_nobodys() {
    let mut world = World::new(INCLUDE);
    world.write("conf.d/a.toml", format!("{}{}", probe("a"), probe("x")));
    world.write("conf.d/b.toml", probe("x"));
    world.write("conf.d/c.toml", probe("c"));
    let (config, problems) = world.new_config();
    assert_eq!(names(&config), ["c"]);
    let what = "defines a probe of this type and name, too";
    let expected = format!(
        "conf.d/a.toml:3:1: probe.made.x: conf.d/b.toml {what}\nconf.d/b.toml:1:1: probe.made.x: conf.d/a.toml {what}\n"
    );
    assert_eq!(problems, expected);
    assert_eq!(world.check(false).expect_err("a check says the same"), problems);
}

#[test]
fn a_file_that_links_lead_to_by_several_ways_is_included_once() {
    let mut world = World::new(&INCLUDE.replace("conf.d/*", "conf.d/**/*"));
    fs::create_dir(world.path("conf.d/a")).unwrap();
    world.write("conf.d/a/x.toml", probe("x"));
    world.write("conf.d/z.toml", probe("z"));
    symlink("..", world.path("conf.d/a/loop")).unwrap();
    symlink("z.toml", world.path("conf.d/zz.toml")).unwrap();
    symlink("../midwatch.toml", world.path("conf.d/main.toml")).unwrap();
    let config = world.good();
    assert_eq!(names(&config), ["x", "z"]);
    let files: Vec<_> = config.files.iter().map(|file| file.path.strip_prefix(world.dir.path()).unwrap()).collect();
    assert_eq!(files, ["midwatch.toml", "conf.d/a/x.toml", "conf.d/z.toml"].map(std::path::Path::new));
}

#[test]
fn the_main_file_and_a_fragment_with_one_name() {
    let mut world = World::new(&format!("{INCLUDE}{}", probe("x")));
    world.write("conf.d/a.toml", probe("x"));
    let (config, problems) = world.new_config();
    assert_eq!(names(&config), ["x"]);
    assert!(config.probes[0].file.ends_with("midwatch.toml"));
    assert!(problems.starts_with("conf.d/a.toml:1:1: probe.made.x: midwatch.toml defines"), "{problems}");
    // The name of a running fragment is not taken away by the main file.
    world.write("midwatch.toml", INCLUDE);
    world.good();
    world.write("midwatch.toml", format!("{INCLUDE}{}", probe("x")));
    assert!(world.refused().starts_with("midwatch.toml:7:1: probe.made.x: conf.d/a.toml defines"));
}

#[test]
fn included_files_are_restricted() {
    let mut world = World::new(INCLUDE);
    world.write("secrets/p", "one");
    world.write("outside", "two");
    symlink(world.path("outside"), world.path("secrets/link")).unwrap();
    let with = |key: &str| format!("{}{key}\n", probe("a"));
    let only = "an included file may read only files below the `secret_dirs` of its [[include]]";
    let file = |path: &str| with(&format!("password = {{ file = \"{path}\" }}"));
    let secrets = world.path("secrets").display().to_string();
    let main = "belongs in the main file; an included file holds only probes";
    let table = [
        (file("../outside"), format!("3:12: probe.made.a: `password`: {only}")),
        (file("/etc/passwd"), format!("3:12: probe.made.a: `password`: {only}")),
        (file("/no/such/file"), format!("3:12: probe.made.a: `password`: {only}")),
        (file(&format!("{secrets}/link")), format!("3:12: probe.made.a: `password`: {only}")),
        (file(&format!("{secrets}/../outside")), format!("3:12: probe.made.a: `password`: {only}")),
        (file("../secrets/../../none/none"), format!("3:12: probe.made.a: `password`: {only}")),
        (file(&format!("{secrets}/../none")), format!("3:12: probe.made.a: `password`: {only}")),
        (file(&format!("{secrets}/none")), "3:12: probe.made.a: `password`: cannot read the file: it does not exist".into()),
        (with("ca_file = \"../outside\""), format!("3:11: probe.made.a: `ca_file`: {only}")),
        (
            with("password = { env = \"HOME\" }"),
            "3:12: probe.made.a: `password`: only the main file may use the environment; name a file below `secret_dirs`".into(),
        ),
        ("[probe.other.x]\n".into(), "1:8: probe.other: the [[include]] of this file does not allow probes of type `other`".into()),
        ("[server]\nx = 1\n".into(), format!("1:2: `server`: {main}")),
        ("[[include]]\nfiles = \"x\"\n".into(), format!("1:3: `include`: {main}")),
        ("labels = 1\n".into(), format!("1:1: `labels`: {main}")),
        ("[defaults]\n".into(), format!("1:2: `defaults`: {main}")),
    ];
    for (text, expected) in table {
        world.write("conf.d/a.toml", &text);
        assert_eq!(world.check(false).expect_err(&text), format!("conf.d/a.toml:{expected}\n"), "{text}");
    }
    for path in [format!("{secrets}/p"), "../secrets/p".into()] {
        world.write("conf.d/a.toml", file(&path));
        world.check(false).expect(&path);
    }
    world.write("midwatch.toml", "[[include]]\nfiles = \"conf.d/*.toml\"\n");
    assert!(world.check(false).expect_err("no directory").contains("has no `secret_dirs`"));
    // The main file is free.
    world.write("midwatch.toml", file("outside"));
    world.good();
}

#[test]
fn kubernetes_swaps_the_link_of_a_whole_directory() {
    let mut world = World::new(INCLUDE);
    for (version, hosts, secret) in [("..1", "db1", "one"), ("..2", "db2", "two")] {
        fs::create_dir(world.path(&format!("conf.d/{version}"))).unwrap();
        fs::create_dir(world.path(&format!("secrets/{version}"))).unwrap();
        let text = format!("[probe.made.a]\nhosts = [\"{hosts}\"]\npassword = {{ file = \"../secrets/p\" }}\n");
        world.write(&format!("conf.d/{version}/team.toml"), text);
        world.write(&format!("secrets/{version}/p"), secret);
    }
    let swap = |world: &World, folder: &str, version: &str| {
        symlink(version, world.path(&format!("{folder}/..tmp"))).unwrap();
        fs::rename(world.path(&format!("{folder}/..tmp")), world.path(&format!("{folder}/..data"))).unwrap();
    };
    swap(&world, "conf.d", "..1");
    swap(&world, "secrets", "..1");
    symlink("..data/team.toml", world.path("conf.d/team.toml")).unwrap();
    symlink("..data/p", world.path("secrets/p")).unwrap();
    assert_eq!(generation(&world.good(), "a"), 0);
    for dir in ["conf.d", "secrets", "conf.d/..1"] {
        assert!(
            world.loader.directories().iter().any(|found| found.canonicalize().unwrap() == world.path(dir)),
            "{dir}"
        );
    }
    swap(&world, "secrets", "..2");
    assert_eq!(generation(&world.good(), "a"), 1);
    swap(&world, "conf.d", "..2");
    fs::remove_dir_all(world.path("conf.d/..1")).unwrap();
    assert_eq!(generation(&world.good(), "a"), 2);
    assert!(matches!(world.load(), Loaded::Unchanged { .. }));
}

#[test]
fn a_file_of_another_kind_in_place_of_the_main_one_changes_nothing() {
    let mut world = World::new(&probe("a"));
    world.good();
    let path = world.path("midwatch.toml");
    let replace = |make: &dyn Fn()| {
        fs::remove_file(&path).unwrap();
        make();
    };
    replace(&|| fs::create_dir(&path).unwrap());
    assert!(world.refused().contains("directory"));
    fs::remove_dir(&path).unwrap();
    assert!(world.refused().contains("does not exist"));
    world.write("midwatch.toml", "");
    assert!(world.refused().contains("empty"));
    world.write("midwatch.toml", &probe("a")[..20]);
    world.refused();
    world.write("midwatch.toml", probe("a"));
    assert_eq!(generation(&world.good(), "a"), 0);
}

#[test]
fn without_a_writable_state_directory_everything_else_works() {
    let mut world = World::new(&INCLUDE.replace("\"state\"", "\"midwatch.toml/no\""));
    world.write("conf.d/a.toml", probe("a"));
    assert_eq!(names(&world.good()), ["a"]);
    world.write("conf.d/a.toml", "x = 1\n");
    assert_eq!(names(&world.new_config().0), ["a"]);
}

#[test]
fn kept_versions_are_private_and_a_check_uses_none() {
    let mut world = World::new(INCLUDE);
    world.write("conf.d/a.toml", probe("a"));
    world.good();
    let kept: Vec<_> =
        fs::read_dir(world.path("state/last-good")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), probe("a"));
    world.write("conf.d/a.toml", "x = 1\n");
    world.check(false).expect_err("a check does not fall back");
    // A kept version that was damaged is no fall-back.
    fs::write(&kept[0], [0xff, 0, 1]).unwrap();
    world.restart();
    assert_eq!(names(&world.new_config().0), Vec::<&str>::new());
}

#[test]
fn disabled_probes_are_checked_and_do_not_run() {
    let mut world = World::new(&format!("{}enabled = false\n{}", probe("a"), probe("b")));
    assert_eq!(names(&world.good()), ["b"]);
    world.write("midwatch.toml", format!("{}enabled = false\ncount = 13\n", probe("a")));
    assert!(world.refused().contains("brings bad luck"));
}

#[test]
fn labels_and_defaults_reach_the_probes_of_all_files() {
    let text = format!(
        "{INCLUDE}[labels]\nvantage = \"a\"\ntier = \"1\"\n[defaults]\ninterval = \"20s\"\nowner = \"o\"\nslo = {{ objective = 0.9 }}\nbuckets = \"lan\"\nnative = {{ factor = 2 }}\n"
    );
    let mut world = World::new(&text);
    world.write(
        "conf.d/a.toml",
        format!(
            "{}labels = {{ tier = \"2\" }}\ninterval = \"1s\"\nowner = \"p\"\nnative = {{ max_buckets = 100 }}\n",
            probe("a")
        ),
    );
    world.write("conf.d/b.toml", probe("b"));
    world.write("conf.d/c.toml", format!("{}native = \"off\"\n", probe("c")));
    let config = world.good();
    let [a, b] = [&config.probes[0].common, &config.probes[1].common];
    assert_eq!(a.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["tier=2", "vantage=a"]);
    assert_eq!((a.interval.as_millis(), a.timeout.as_millis(), a.owner.as_str()), (1000, 800, "p"));
    assert_eq!((b.interval.as_secs(), b.timeout.as_secs(), b.owner.as_str()), (20, 5, "o"));
    assert!(b.slo.is_some() && b.buckets.is_some());
    let rule = |factor, max_buckets| Some(NativeRule::new(factor, max_buckets, NativeRule::ZERO_THRESHOLD));
    let native: Vec<_> = config.probes.iter().map(|spec| spec.common.native).collect();
    assert_eq!(native, [rule(1.1, 100), rule(2.0, 160), None], "a table replaces the default one whole");
    assert_eq!(config.labels.len(), 2);
}

/// Not a benchmark: a cap far above what it takes, so that something quadratic is noticed.
#[test]
fn five_thousand_probes_take_no_quadratic_time() {
    let text: String = (0..5000)
        .map(|n| format!("{}password = {{ file = \"secrets/p\" }}\ninterval = \"1s\"\nowner = \"fleet\"\nslo = {{ objective = 0.999, latency = \"25ms\" }}\n", probe(&format!("p{n}"))))
        .collect();
    let mut world = World::new(&text);
    world.write("secrets/p", "x");
    let start = tokio::time::Instant::now();
    assert_eq!(world.good().probes.len(), 5000);
    let (loaded, start) = (start.elapsed(), tokio::time::Instant::now());
    assert!(matches!(world.load(), Loaded::Unchanged { .. }));
    let noop = start.elapsed();
    println!("5000 probes: load {loaded:?}, no-op reload {noop:?}");
    let bad = text.replace("hosts", "hots");
    let problems = World::new(&bad).check(false).expect_err("bad");
    assert_eq!(problems.lines().count(), 1001);
    assert!(loaded.as_secs() < 20 && noop.as_secs() < 4 && start.elapsed().as_secs() < 30);
}

#[test]
fn an_included_file_is_bad_if_its_type_clashes_with_the_labels_of_the_main_file() {
    let labels = "[labels]\nmember = \"x\"\n";
    let mut world = World::new(&format!("{INCLUDE}{labels}"));
    world.write("conf.d/a.toml", format!("{}{}", probe("a"), probe("b")));
    let (config, problems) = world.new_config();
    assert_eq!(names(&config), [""; 0]);
    let clash = "metrics of probe type `made` have this label themselves\n";
    assert_eq!(problems, format!("conf.d/a.toml:1:8: probe.made: [labels] of the main file holds `member`: {clash}"));
    // In the main file itself it is the label that is wrong.
    world.write("midwatch.toml", format!("{labels}{}{}", probe("a"), probe("b")));
    assert_eq!(world.refused(), format!("midwatch.toml:2:1: `labels`: `member`: {clash}"));
}
