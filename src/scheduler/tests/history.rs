//! What is remembered of runs: the last ones and the noteworthy ones, through reloads, in bounded memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::super::history::{History, LeftOut, NOTEWORTHY, PastRun, RECENT};
use super::super::verdict::{Run, Standing};
use super::bench::{Bench, PHASES, SECOND, Script, common, failure, id};
use crate::metrics::RunId;
use crate::metrics::trace::{PhaseTrace, TargetTrace, Trace};
use crate::probe::{Common, Cycle, Failure, Reason, Slo};

const MS: Duration = Duration::from_millis(1);

fn remembered(bench: &Bench) -> Vec<PastRun> {
    let (_, history) = bench.scheduler.histories().find(|(probe, _)| **probe == id("p")).unwrap();
    history.runs()
}

fn standings(runs: &[PastRun]) -> Vec<Standing> {
    runs.iter().map(|run| run.standing).collect()
}

/// Its second run is slow, its third one fails, all others are good.
fn rarely_bad() -> Script {
    Script::new(|made, _, rec| {
        Box::pin(async move {
            let nth = made.state.fetch_add(1, Ordering::Relaxed);
            let target = rec.target("one").phases(&PHASES);
            let phase = target.phase("hello");
            sleep(if nth == 1 { 300 * MS } else { 10 * MS }).await;
            let refused = failure(Reason::Refused);
            if nth == 2 {
                phase.fail(&refused);
                target.finish(Err(refused));
            } else {
                phase.done();
                target.note("primary");
                target.finish(Ok(()));
            }
            Ok(())
        })
    })
}

fn with_slo() -> Common {
    Common { slo: Some(Slo { objective: 0.9, latency: Some(100 * MS) }), ..common() }
}

#[tokio::test(start_paused = true)]
async fn a_slow_and_a_failed_run_are_still_there_after_many_good_ones() {
    let mut bench = Bench::new();
    bench.apply(&[("p", with_slo(), rarely_bad())]);
    bench.runs(4).await;
    assert_eq!(standings(&remembered(&bench)), [Standing::Good, Standing::Failed, Standing::Slow, Standing::Good]);
    sleep(200 * SECOND).await;
    let runs = remembered(&bench);
    assert_eq!(runs.len(), RECENT + 2);
    assert!(runs[..RECENT].iter().all(|run| run.standing == Standing::Good));
    let [failed, slow] = &runs[RECENT..] else { panic!("{runs:?}") };
    assert_eq!((failed.standing, slow.standing), (Standing::Failed, Standing::Slow));
    let target = &failed.trace.targets[0];
    assert_eq!(target.verdict, Some(Err(failure(Reason::Refused))));
    assert_eq!(failed.trace.phases[0].failure, Some(Reason::Refused));
    let PhaseTrace { target, name, duration, failure } = slow.trace.phases[0];
    assert_eq!((target, name, failure), (0, "hello", None));
    assert_eq!(duration.as_millis(), 300);
    assert_eq!((slow.trace.targets[0].name.as_str(), slow.trace.targets[0].note.as_str()), ("one", "primary"));
    assert_eq!((slow.cycle, slow.duration.as_millis()), ("main", 300));
    let mut ids: Vec<_> = runs.iter().map(|run| run.id.to_string()).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), runs.len());
}

#[tokio::test(start_paused = true)]
async fn when_everything_fails_the_number_is_bounded_too() {
    let bench = Bench::with(Script::sync(|_, _, _| Err(failure(Reason::Resolve))));
    sleep(100 * SECOND).await;
    let runs = remembered(&bench);
    assert_eq!(runs.len(), RECENT + NOTEWORTHY);
    assert!(runs.iter().all(|run| run.standing == Standing::Failed && run.result == Err(failure(Reason::Resolve))));
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_remembered_and_a_removal_does_not() {
    let script = Script::idle();
    let mut bench = Bench::with(script.clone());
    bench.runs(3).await;
    let before: Vec<_> = remembered(&bench).iter().map(|run| run.id).collect();
    let ids = |bench: &Bench| remembered(bench).iter().map(|run| run.id).collect::<Vec<_>>();
    let labels = BTreeMap::from([("site".into(), "north".into())]);
    let changes = [(common(), script.version(1)), (Common { labels, ..common() }, script.version(1))];
    for (common, script) in changes {
        bench.apply(&[("p", common, script)]);
        assert!(ids(&bench).ends_with(&before));
        sleep(2 * SECOND).await;
        let now = ids(&bench);
        assert!(now.len() > before.len() && now.ends_with(&before), "{now:?}");
    }
    bench.apply(&[]);
    assert_eq!(bench.scheduler.histories().count(), 0);
    bench.apply(&[("p", common(), script)]);
    assert!(remembered(&bench).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_the_deadline_cut_off_has_its_verdict() {
    let bench = Bench::with(Script::new(|_, _, rec| {
        Box::pin(async move {
            rec.target("done").finish(Ok(()));
            let target = rec.target("hanging").phases(&PHASES);
            let _phase = target.phase("hello");
            std::future::pending().await
        })
    }));
    bench.runs(1).await;
    let run = remembered(&bench).remove(0);
    assert_eq!(run.result.as_ref().unwrap_err().reason, Reason::Timeout);
    let hanging = &run.trace.targets[1];
    assert_eq!(hanging.verdict.as_ref().unwrap().as_ref().unwrap_err().reason, Reason::Timeout);
    assert_eq!(hanging.duration.as_millis(), 500);
    assert_eq!(run.trace.targets[0].verdict, Some(Ok(())));
}

/// A run that ended, with so many phases of each target.
fn run(targets: Vec<TargetTrace>, phases: usize) -> Run {
    let all = (0..targets.len()).flat_map(|target| {
        let names = ["resolve", "tcp", "tls", "hello", "auth", "command"];
        names.into_iter().cycle().take(phases).map(move |name| PhaseTrace { target, name, duration: MS, failure: None })
    });
    let trace = Trace { phases: all.collect(), targets, gone: Vec::new() };
    Run { id: RunId::next(), cycle: Cycle::MAIN, duration: MS, result: Ok(()), panicked: false, trace }
}

fn target(name: String, detail: Option<String>) -> TargetTrace {
    let verdict = detail.map_or(Ok(()), |detail| Err(Failure::new(Reason::Protocol, detail)));
    TargetTrace { name, duration: MS, verdict: Some(verdict), note: "secondary".into() }
}

/// What the history of a probe takes whose only member always fails.
fn bytes_of_failing(detail: impl Fn(usize) -> String) -> usize {
    let history = History::default();
    for nth in 0..100 {
        let member = target("db1.production.example.net:27017".into(), Some(detail(nth)));
        history.remember(run(vec![member], 6), Standing::Failed);
    }
    assert_eq!(history.runs().len(), RECENT + NOTEWORTHY);
    history.bytes()
}

#[test]
fn a_thousand_failing_members_take_few_megabytes() {
    let same = bytes_of_failing(|_| "connect to 10.0.0.1:27017: Connection refused (os error 111)".into());
    assert!(same * 1_000 <= 4_000_000, "{same} bytes for each probe");
    // No two runs tell the same story.
    let differing = bytes_of_failing(|nth| format!("connect to 10.0.0.1:27017: refused for the {nth:>6}th time"));
    assert!(differing * 1_000 <= 13_000_000, "{differing} bytes for each probe");
}

#[test]
fn a_hostile_peer_cannot_fill_the_memory() {
    let history = History::default();
    for nth in 0..RECENT + NOTEWORTHY {
        let long = |n: usize| format!("{nth}-{n}-{}", "ü".repeat(5_000));
        let targets = (0..500).map(|n| TargetTrace { note: long(n), ..target(long(n), Some(long(n))) }).collect();
        history.remember(run(targets, 200), Standing::Failed);
    }
    let runs = history.runs();
    assert_eq!(runs.len(), RECENT + NOTEWORTHY);
    for run in &runs {
        assert!(!run.trace.targets.is_empty());
        assert_eq!(run.trace.targets.len() + run.left_out.targets, 500);
        let texts = run.trace.targets.iter().flat_map(|target| [&target.name, &target.note]);
        assert!(texts.into_iter().all(|text| text.len() <= 300 && text.ends_with('…')));
        assert!(run.trace.phases.iter().all(|phase| phase.target < run.trace.targets.len()));
    }
    let bytes = history.bytes();
    assert!(bytes <= 512 * 1024, "{bytes} bytes");
}

#[test]
fn what_failed_is_kept_before_what_did_not() {
    let history = History::default();
    let mut targets: Vec<_> = (0..300).map(|n| target(format!("good-{n}:27017"), None)).collect();
    targets.push(target("bad:27017".into(), Some("why".into())));
    history.remember(run(targets, 6), Standing::Failed);
    let run = history.last().unwrap();
    let last = run.trace.targets.len() - 1;
    assert_eq!(run.trace.targets[last].name, "bad:27017");
    assert_eq!(run.trace.phases.iter().filter(|phase| phase.target == last).count(), 6);
    assert_eq!(run.trace.targets.len() + run.left_out.targets, 301);

    // Of one target, the first phases are kept.
    history.remember(self::run(vec![target("one".into(), None)], 10_000), Standing::Good);
    let run = history.last().unwrap();
    assert_eq!(run.left_out, LeftOut { targets: 0, phases: 10_000 - 64 });
    assert_eq!(run.trace.phases.len(), 64);
}

#[test]
fn a_replica_set_of_fifty_members_is_remembered_whole() {
    let history = History::default();
    let name = |n| format!("mongodb-{n:02}.production.example.net:27017");
    history.remember(run((0..50).map(|n| target(name(n), None)).collect(), 6), Standing::Good);
    let run = history.last().unwrap();
    assert_eq!(run.left_out, LeftOut::default());
    assert_eq!((run.trace.targets.len(), run.trace.phases.len()), (50, 300));
}

/// The order in which members that are visited at once end their phases makes no other story of a run.
#[test]
fn runs_with_one_story_share_it_whatever_the_order_of_phases() {
    let history = History::default();
    for nth in 0..10 {
        let mut run = run(vec![target("a".into(), None), target("b".into(), None)], 3);
        let len = run.trace.phases.len();
        run.trace.phases.rotate_left(if nth % 2 == 0 { 0 } else { len / 2 });
        history.remember(run, Standing::Good);
    }
    assert_eq!(history.stories(), 1);
    let told = history.last().unwrap().trace;
    let order: Vec<_> = told.phases.iter().map(|phase| (phase.target, phase.name)).collect();
    assert_eq!(order, [(0, "resolve"), (0, "tcp"), (0, "tls"), (1, "resolve"), (1, "tcp"), (1, "tls")]);
}
