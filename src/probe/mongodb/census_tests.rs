//! What answers add up to, run after run; hostile ones too.

use bson::{RawArrayBuf, rawdoc};

use super::census::{Census, Memory};
use super::hello::Hello;
use crate::metrics::exposition::{Format, Writer};
use crate::metrics::{BucketRule, Gauges, Recorder, SeriesSet, Snapshot};

const SEEDS: [&str; 2] = ["db1:27017", "db2:27017"];

/// A probe's memory and series, over several runs.
struct Probe {
    memory: Memory,
    set: std::sync::Arc<SeriesSet>,
    seeds: Vec<String>,
}

impl Probe {
    fn new(seeds: &[&str]) -> Self {
        let seeds = seeds.iter().map(|seed| (*seed).to_owned()).collect();
        Self { memory: Memory::default(), set: SeriesSet::new([], BucketRule::default()), seeds }
    }

    /// One run in which the given members answer; returns what it would visit beside the seeds and the known.
    fn run(&self, answers: &[(&str, Hello, bool)]) -> Vec<String> {
        let rec = Recorder::default();
        let census = Census::new(&rec, &self.memory, self.seeds.clone(), true);
        let known = self.memory.discovered(&self.seeds);
        for member in self.seeds.iter().chain(&known) {
            assert!(census.expect(member), "{member} is known once");
        }
        for (member, hello, trusted) in answers {
            census.answer(member, hello.clone());
            if *trusted {
                census.trust(member);
            }
        }
        let more = census.unvisited();
        for member in &more {
            assert!(census.expect(member));
        }
        drop(census);
        rec.commit(&self.set, "main", Gauges::Replace);
        more
    }

    fn text(&self) -> String {
        let pieces: Vec<u8> = Writer::new(Snapshot::from(&*self.set), Format::Text).rest();
        String::from_utf8(pieces).unwrap()
    }

    /// The value of the one series of that name without labels.
    fn value(&self, name: &str) -> Option<String> {
        self.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    }
}

fn primary(me: &str, hosts: &[String]) -> Hello {
    let mut list = RawArrayBuf::new();
    hosts.iter().for_each(|host| list.push(host.as_str()));
    Hello::parse(&rawdoc! { "setName": "lab", "isWritablePrimary": true, "me": me, "hosts": list })
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_peer_that_names_new_members_at_every_run_costs_no_more_than_a_replica_set() {
    let probe = Probe::new(&SEEDS[..1]);
    let mut most = 0;
    for run in 0..30 {
        let fresh: Vec<_> = (0..100).map(|n| format!("10.{run}.0.{n}:27017")).collect();
        let more = probe.run(&[(SEEDS[0], primary(SEEDS[0], &fresh), true)]);
        assert!(more.len() <= 50, "{} members in one run", more.len());
        assert!(probe.memory.discovered(&probe.seeds).len() <= 50);
        most = most.max(probe.set.size());
    }
    // The known, and those that are new: of each a replica set's worth, and never more.
    let each = 9 + 1 + 2;
    assert!(most <= each * (50 + 50 + 1) + 10, "{most} series");
}

#[test]
fn nobody_is_followed_who_did_not_let_us_in() {
    let probe = Probe::new(&SEEDS[..1]);
    let hello = primary(SEEDS[0], &names(&["elsewhere:27017"]));
    assert!(probe.run(&[(SEEDS[0], hello.clone(), false)]).is_empty());
    assert!(probe.memory.discovered(&probe.seeds).is_empty());
    assert_eq!(probe.run(&[(SEEDS[0], hello, true)]), ["elsewhere:27017"]);
}

#[test]
fn one_primary_under_two_names_is_one_and_another_name_is_no_change() {
    let probe = Probe::new(&["localhost:27017", "127.0.0.1:27017"]);
    let hello = primary("db1:27017", &names(&["db1:27017"]));
    let both = [("localhost:27017", hello.clone(), true), ("127.0.0.1:27017", hello.clone(), true)];
    assert!(probe.run(&both).is_empty(), "db1 is what both call themselves");
    assert_eq!(probe.value("midwatch_mongodb_primaries").as_deref(), Some("1"));
    probe.run(&both[1..]);
    assert_eq!(probe.value("midwatch_mongodb_primary_changes_total").as_deref(), Some("0"));
    let other = primary("db2:27017", &names(&["db1:27017"]));
    probe.run(&[("localhost:27017", other, true)]);
    assert_eq!(probe.value("midwatch_mongodb_primary_changes_total").as_deref(), Some("1"));
}

#[test]
fn series_of_a_member_end_when_nobody_names_it_any_more() {
    let probe = Probe::new(&SEEDS[..1]);
    let both = primary(SEEDS[0], &names(&[SEEDS[0], "db3:27017"]));
    probe.run(&[(SEEDS[0], both.clone(), true)]);
    probe.run(&[(SEEDS[0], both.clone(), true), ("db3:27017", both, true)]);
    assert!(probe.text().contains("db3"));
    // Nobody answers: that says nothing about who the members are.
    probe.run(&[]);
    assert!(probe.text().contains("db3"));
    probe.run(&[(SEEDS[0], primary(SEEDS[0], &names(&[SEEDS[0]])), true)]);
    assert!(!probe.text().contains("db3"), "{}", probe.text());
}

#[test]
fn a_silent_member_keeps_only_its_possible_other_names_from_being_visited() {
    // db2 is silent and was never heard: `other:27017` may be its own name for itself, `other:27018` is not.
    let probe = Probe::new(&SEEDS);
    let hello = primary(SEEDS[0], &names(&["other:27017", "other:27018"]));
    assert_eq!(probe.run(&[(SEEDS[0], hello.clone(), true)]), ["other:27018"]);
    // It was remembered, and is visited from the start of the next run on.
    assert_eq!(probe.memory.discovered(&probe.seeds), ["other:27017", "other:27018"]);
    let db2 = Hello::parse(&rawdoc! { "setName": "lab", "secondary": true, "me": "other:27017" });
    probe.run(&[(SEEDS[0], hello, true), (SEEDS[1], db2, true)]);
    assert_eq!(probe.memory.discovered(&probe.seeds), ["other:27018"]);
    assert!(!probe.text().contains("other:27017"), "it was db2 all along");
}
