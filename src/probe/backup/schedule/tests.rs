//! The times are those of Python's `zoneinfo`, in unix seconds; each is said in words beside it.

use super::*;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Saturday, 2026-11-21 12:00 in Berlin.
const NOON: f64 = 1_795_258_800.0;

fn cron(text: &str, zone: &str, grace: f64) -> Schedule {
    let cron = CronParser::builder().seconds(Seconds::Disallowed).build().parse(text).unwrap();
    let rhythm = Rhythm::Cron { text: text.to_owned(), cron: Box::new(cron), zone: zone.parse().unwrap() };
    Schedule { rhythm, grace }
}

fn every(seconds: f64, grace: f64) -> Schedule {
    Schedule { rhythm: Rhythm::Every(seconds), grace }
}

fn spans(starts: impl IntoIterator<Item = f64>) -> Spans {
    let mut spans = Spans::default();
    starts.into_iter().for_each(|start| spans.note(start, start));
    spans
}

fn judge(schedule: &Schedule, from: f64, heard: f64, starts: impl IntoIterator<Item = f64>) -> Option<(f64, u64)> {
    let spans = spans(starts);
    schedule.judge(from, heard, &spans, &|at| spans.goes_on_at(at))
}

/// All due times from `from` on for `seconds`, found by judging from minute to minute.
fn due(schedule: &Schedule, from: f64, seconds: f64) -> Vec<f64> {
    let mut due = Vec::new();
    let mut judged = from;
    for minute in 0..=(seconds / 60.0) as u64 {
        let heard = from + minute as f64 * 60.0 + schedule.grace;
        if let Some((until, missed)) = judge(schedule, judged, heard, []) {
            assert_eq!(missed, 1, "more than one due time within a minute of {until}");
            due.push(until);
            judged = until;
        }
    }
    due
}

#[test]
fn a_job_in_the_hour_that_does_not_exist_is_due_right_after_it() {
    // 02:30 on March 28, 03:00 on the 29th, 02:30 on the 30th.
    let berlin = cron("30 2 * * *", "Europe/Berlin", HOUR);
    assert_eq!(due(&berlin, 1_774_656_000.0, 3.0 * DAY), [1_774_661_400.0, 1_774_746_000.0, 1_774_830_600.0]);
    // The same of March 7, 8 and 9.
    let york = cron("30 2 * * *", "America/New_York", HOUR);
    assert_eq!(due(&york, 1_772_859_600.0, 3.0 * DAY), [1_772_868_600.0, 1_772_953_200.0, 1_773_037_800.0]);
}

#[test]
fn a_job_in_the_hour_that_comes_twice_is_due_the_first_time() {
    // 02:30 on October 24, 25 (in summer time) and 26.
    let berlin = cron("30 2 * * *", "Europe/Berlin", HOUR);
    assert_eq!(due(&berlin, 1_792_800_000.0, 3.0 * DAY), [1_792_801_800.0, 1_792_888_200.0, 1_792_978_200.0]);
    // 01:30 on October 31, November 1 (in summer time) and 2.
    let york = cron("30 1 * * *", "America/New_York", HOUR);
    assert_eq!(due(&york, 1_793_419_200.0, 3.0 * DAY), [1_793_424_600.0, 1_793_511_000.0, 1_793_601_000.0]);
}

#[test]
fn a_job_of_each_hour_is_due_each_hour_that_passes() {
    // From 22:00 UTC or as late before the clocks change, both ways.
    for (zone, from) in [
        ("Europe/Berlin", 1_774_735_200.0),
        ("Europe/Berlin", 1_792_879_200.0),
        ("America/New_York", 1_772_942_400.0),
        ("America/New_York", 1_793_502_000.0),
    ] {
        let hourly = due(&cron("0 * * * *", zone, 60.0), from, 7.0 * HOUR);
        let expected: Vec<_> = (1..=7).map(|hour| from + f64::from(hour) * HOUR).collect();
        assert_eq!(hourly, expected, "{zone}");
        let quarters = due(&cron("*/15 * * * *", zone, 60.0), from, 7.0 * HOUR);
        assert_eq!(quarters.len(), 28, "{zone}");
    }
}

#[test]
fn the_interval_is_that_between_the_last_due_time_and_the_next() {
    let weekdays = cron("0 2 * * 1-5", "Europe/Berlin", HOUR);
    // From Friday to Monday, from Monday to Tuesday.
    assert_eq!(weekdays.interval(NOON), Some(3.0 * DAY));
    assert_eq!(weekdays.interval(1_795_395_600.0), Some(DAY));
    assert_eq!(weekdays.interval(1_795_395_600.0 - 1.0), Some(3.0 * DAY));
    // The night in which an hour is left out, and the one in which an hour comes twice.
    let nightly = cron("30 3 * * *", "Europe/Berlin", HOUR);
    assert_eq!(nightly.interval(1_774_746_000.0), Some(23.0 * HOUR));
    assert_eq!(nightly.interval(1_792_891_800.0), Some(25.0 * HOUR));
    assert_eq!(every(6.0 * HOUR, HOUR).interval(NOON), Some(6.0 * HOUR));
}

#[test]
fn a_run_may_begin_late_but_not_later_than_that() {
    // Due at 02:00 UTC each day; the first one after noon is 14 hours away.
    let (nightly, first) = (cron("0 2 * * *", "UTC", HOUR), NOON + 15.0 * HOUR);
    for (late, missed) in [(-61.0, 1), (-60.0, 0), (0.0, 0), (HOUR, 0), (HOUR + 1.0, 1)] {
        assert_eq!(judge(&nightly, NOON, first + HOUR, [first + late]), Some((first, missed)), "{late} s late");
    }
    // Nothing is said before the run is later than it may be.
    assert_eq!(judge(&nightly, NOON, first + HOUR - 1.0, []), None);
}

#[test]
fn due_times_before_and_after_midnight_are_days_apart() {
    let late = cron("59 23 * * *", "Europe/Berlin", HOUR);
    let first = NOON + 12.0 * HOUR - 60.0;
    // It begins after midnight, each night, within its grace.
    let starts = [first + 600.0, first + DAY + 600.0];
    assert_eq!(judge(&late, NOON, NOON + 2.0 * DAY, starts), Some((first + DAY, 0)));
    let both = cron("59 23,0 * * *", "Europe/Berlin", HOUR);
    assert_eq!(due(&both, NOON, DAY), [first, first + HOUR]);
}

#[test]
fn a_run_belongs_to_one_due_time() {
    // Grace is longer than the interval, as by default. Runs at 10, 20, 35 (five minutes late) and 40 minutes.
    let from = NOON;
    let often = cron("*/10 * * * *", "UTC", HOUR);
    let starts = [10.0, 20.0, 35.0, 40.0].map(|minute| from + minute * 60.0);
    assert_eq!(judge(&often, from, from + 49.0 * 60.0 + HOUR, starts), Some((from + 2400.0, 0)));
    // Without that of minute 20: the later ones do not make up for it.
    let starts = [10.0, 35.0, 40.0].map(|minute| from + minute * 60.0);
    assert_eq!(judge(&often, from, from + 49.0 * 60.0 + HOUR, starts), Some((from + 2400.0, 1)));
    // A run each minute, a little early each time.
    let minutely = cron("* * * * *", "UTC", HOUR);
    let starts: Vec<_> = (1..=60).map(|minute| from + f64::from(minute) * 60.0 - 5.0).collect();
    assert_eq!(judge(&minutely, from, from + 2.0 * HOUR, starts), Some((from + HOUR, 0)));
}

#[test]
fn a_run_that_goes_on_keeps_the_due_times_within_it() {
    let hourly = cron("0 * * * *", "UTC", 600.0);
    let mut spans = Spans::default();
    // From 13:00 to 15:30 UTC: 14:00 and 15:00 are not missed, 16:00 is.
    spans.note(NOON + 2.0 * HOUR, NOON + 4.5 * HOUR);
    let judge = |heard| hourly.judge(NOON + HOUR, heard, &spans, &|at| spans.goes_on_at(at));
    assert_eq!(judge(NOON + 4.5 * HOUR), Some((NOON + 4.0 * HOUR, 0)));
    assert_eq!(judge(NOON + 5.5 * HOUR), Some((NOON + 5.0 * HOUR, 1)));
}

#[test]
fn an_interval_counts_from_the_last_run() {
    let daily = every(DAY, HOUR);
    assert_eq!(judge(&daily, NOON, NOON + DAY + HOUR - 1.0, []), None);
    assert_eq!(judge(&daily, NOON, NOON + DAY + HOUR, []), Some((NOON + DAY, 1)));
    assert_eq!(judge(&daily, NOON, NOON + 3.5 * DAY, []), Some((NOON + 3.0 * DAY, 3)));
    // Each one a little later than the day before: due is what is a day after the one before.
    let starts: Vec<_> = (1..=5).map(|day| NOON + f64::from(day) * (DAY + 0.9 * HOUR)).collect();
    assert_eq!(judge(&daily, NOON, NOON + 6.0 * DAY, starts.clone()), Some((starts[4], 0)));
    // Three days between two runs, in one look: it was due twice.
    let starts = [NOON + HOUR, NOON + HOUR + 3.0 * DAY];
    assert_eq!(judge(&daily, NOON, NOON + 4.0 * DAY, starts), Some((starts[1], 2)));
    // Far more often than it has to.
    let starts: Vec<_> = (1..=48).map(|hour| NOON + f64::from(hour) * HOUR).collect();
    assert_eq!(judge(&daily, NOON, NOON + 2.0 * DAY, starts.clone()), Some((starts[47], 0)));
}

#[test]
fn a_day_that_nobody_could_see_is_judged_by_what_is_listed_then() {
    let often = cron("*/5 * * * *", "UTC", 240.0);
    let starts = || (1..=288).map(|n| NOON + f64::from(n) * 300.0);
    assert_eq!(judge(&often, NOON, NOON + DAY + 299.0, starts()), Some((NOON + DAY, 0)));
    let holes = starts().filter(|start| !(*start - NOON).rem_euclid(3600.0).eq(&0.0));
    assert_eq!(judge(&often, NOON, NOON + DAY + 299.0, holes), Some((NOON + DAY, 24)));
}

#[test]
fn what_is_not_remembered_is_not_judged() {
    let minutely = cron("* * * * *", "UTC", 60.0);
    let starts = || (1..=10_000).map(|n| NOON + f64::from(n) * 60.0);
    let (mut from, mut missed, mut looks) = (NOON, 0, 0);
    while let Some((until, more)) = judge(&minutely, from, NOON + 10_001.0 * 60.0, starts()) {
        assert!(until > from);
        (from, missed, looks) = (until, missed + more, looks + 1);
    }
    assert_eq!((from, missed), (NOON + 600_000.0, 0));
    // So many at a time, however many there are.
    assert_eq!(looks, 5);
    assert_eq!(judge(&every(60.0, 1.0), NOON, NOON + 600_060.0, starts()).map(|(_, missed)| missed), Some(0));
}

#[test]
fn years_are_judged_bit_by_bit() {
    let nightly = cron("0 2 * * *", "Europe/Berlin", HOUR);
    let (until, missed) = judge(&nightly, 1.6e9, 1.6e9 + 20.0 * 366.0 * DAY, []).unwrap();
    assert_eq!(missed, MOST_DUE as u64);
    assert!((until - 1.6e9 - 2000.0 * DAY).abs() < DAY);
    let (_, missed) = judge(&every(60.0, 1.0), 1.6e9, 1.6e9 + 20.0 * 366.0 * DAY, []).unwrap();
    assert_eq!(missed, MOST_DUE as u64);
    // Times that are no times.
    for (from, heard) in [(f64::NAN, NOON), (NOON, f64::NAN), (f64::MAX, NOON), (-1e300, NOON), (NOON, NOON - DAY)] {
        assert_eq!(judge(&nightly, from, heard, []).filter(|(_, missed)| *missed > MOST_DUE as u64), None);
    }
}

/// The schedule of a job with those keys, or its problems.
fn read(keys: &str) -> Result<Option<Schedule>, Vec<String>> {
    let keys = format!("source = \"exec\"\n{keys}");
    let files = crate::settings::Files::new(false);
    let config =
        crate::probe::testing::config::<crate::probe::backup::config::Config>(std::path::Path::new("/"), &keys, &files);
    config.map(|config| config.schedule(None))
}

#[test]
fn a_schedule_is_read_from_its_keys() {
    let berlin = read("schedule = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\"\ngrace = \"2h\"").unwrap().unwrap();
    assert_eq!(berlin, cron("30 2 * * *", "Europe/Berlin", 2.0 * HOUR));
    assert_eq!(read("schedule = \"@daily\"").unwrap().unwrap().text(), "@daily UTC");
    assert_eq!(read("schedule = \"24h\"").unwrap().unwrap(), every(DAY, HOUR));
    assert_eq!(read("# none"), Ok(None));
    // Grace is no part of what tells schedules from each other.
    assert_eq!(read("schedule = \"1d\"\ngrace = \"1m\"").unwrap().unwrap().text(), every(DAY, HOUR).text());
    for (keys, problem) in [
        ("schedule = \"often\"", "expected a cron expression"),
        ("schedule = \"* * * * * *\"", "expected a cron expression"),
        ("schedule = \"0 0 31 2 *\"", "no such day in any year"),
        ("schedule = \"30s\"", "from 1m to 400d"),
        ("schedule = \"24h\"\ntime_zone = \"Europe/Berlin\"", "an interval has none"),
        ("schedule = \"@daily\"\ntime_zone = \"Mars\"", "expected the name of a time zone"),
        ("schedule = \"@daily\"\ngrace = \"0s\"", "from 1s to 31d"),
        ("grace = \"1h\"", "needs a `schedule`"),
    ] {
        let problems = read(keys).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(problem), "{keys}: {problems:?}");
    }
}
