use std::fs;

use tempfile::TempDir;

use super::*;
use crate::probe::testing::config;
use crate::settings::{Files, Settings};

/// A fake tool: a shell script in a folder of its own.
struct Fake {
    folder: TempDir,
    tool: Tool,
    secret: Secret,
}

struct Keys(Tool, Option<Secret>);

impl Settings for Keys {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self(Tool::read(section, "no-such-tool"), section.optional("secret")))
    }
}

const CANARY: &str = "canary-4711";

fn fake(script: &str) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tool");
    lab::script(&program, &format!("cd '{}'\n{script}", folder.path().display())).unwrap();
    fs::write(folder.path().join("secret"), CANARY).unwrap();
    fs::write(folder.path().join("token"), "token-0815\n").unwrap();
    let keys = format!(
        "program = \"{}\"\nenvironment = {{ TOKEN = {{ file = \"token\" }} }}\nsecret = {{ file = \"secret\" }}",
        program.display()
    );
    let Keys(tool, secret) = config(folder.path(), &keys, &Files::new(false)).unwrap();
    Fake { folder, tool, secret: secret.unwrap() }
}

impl Fake {
    async fn run(&self, time: Duration) -> Result<serde_json::Value, Failure> {
        let call = Call {
            arguments: vec!["list".to_owned(), "a b".to_owned()],
            variables: vec![("PLAIN", "plain".to_owned())],
            secrets: vec![("SECRET", &self.secret)],
            classify: |status, said| (status == Some(7) || said.contains(CANARY)).then_some(Reason::Auth),
            is_warning: |status| status == 1,
        };
        self.tool.run(&call, Instant::now() + time, |bytes| serde_json::from_reader(bytes)).await
    }

    fn pid(&self, name: &str) -> Option<u32> {
        fs::read_to_string(self.folder.path().join(name)).ok()?.trim().parse().ok()
    }

    /// Waits until all processes of [`STUBBORN`] are there, while it runs.
    async fn started(&self, run: impl Future<Output = Result<serde_json::Value, Failure>>) {
        let started = async {
            while self.pid("leader").is_none() || self.pid("other").is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            result = run => panic!("ended: {result:?}"),
            () = started => {}
        }
    }

    /// Waits until the process is gone, reaped or not.
    async fn gone(&self, name: &str) {
        let pid = self.pid(name).unwrap();
        let is_there = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        timeout(Duration::from_secs(60), async {
            while is_there() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{name} is still there"));
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_tool_gets_its_own_environment_and_no_input() {
    let fake = fake("cat; printf '\"'; printf '%s,' \"$@\"; env | sort | tr '\\n' ' '; printf '\"'");
    let said = fake.run(LONG).await.unwrap();
    let said = said.as_str().unwrap();
    for part in ["list,a b,", "PLAIN=plain", "SECRET=canary-4711", "TOKEN=token-0815", "TZ=UTC", "LANG=C"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // Cargo's own, of which there are many here.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !said.contains("CARGO"), "{said}");
    assert!(!format!("{:?}", fake.tool).contains("token-0815"));
}

#[tokio::test]
async fn failures_are_told_apart_without_secrets() {
    for (script, reason, words) in [
        ("echo 'wrong token-0815' >&2; exit 7", Reason::Auth, "tool: exit status: 7: wrong …"),
        ("echo 'no canary-4711x' >&2; exit 1", Reason::Auth, "exit status: 1: no …x"),
        ("echo 'some trouble' >&2; exit 1", Reason::Rejected, "exit status: 1: some trouble"),
        ("echo 'dial tcp: connection refused' >&2; exit 1", Reason::Refused, "connection refused"),
        ("echo '[]'; exit 3", Reason::Rejected, "exit status: 3"),
        ("kill -9 $$", Reason::Rejected, "signal: 9"),
        ("echo '{\"a\":'", Reason::Protocol, "printed what is not expected"),
        ("", Reason::Protocol, "EOF"),
    ] {
        let failure = fake(script).run(LONG).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{script}: {failure}");
        assert!(failure.detail.contains(words), "{script}: {failure}");
        assert!(!failure.detail.contains("canary-4711") && !failure.detail.contains("token-0815"), "{failure}");
    }
    let mut missing = fake("");
    missing.tool.program = "/no/such/tool".to_owned();
    assert_eq!(missing.run(LONG).await.unwrap_err().reason, Reason::Local);
    assert_eq!(missing.tool.concerns().len(), 1);
    assert_eq!(fake("").tool.concerns(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_printed_with_a_warning_is_taken() {
    let said = fake("echo '[7]'; echo 'a file vanished' >&2; exit 1").run(LONG).await.unwrap();
    assert_eq!(said.to_string(), "[7]");
}

#[tokio::test]
async fn only_the_end_of_the_error_output_is_kept() {
    let fake = fake("i=0; while [ $i -lt 3000 ]; do echo \"line $i canary-4711\" >&2; i=$((i+1)); done; exit 1");
    let failure = fake.run(LONG).await.unwrap_err();
    assert!(!failure.detail.contains("line 0 ") && !failure.detail.contains("canary"), "{failure}");
    assert!(failure.detail.chars().count() <= 300, "{failure}");
}

#[tokio::test]
async fn output_beyond_the_limit_is_a_failure_that_costs_no_memory() {
    let failure = fake("yes '                         ' | head -c 80000000; echo 1").run(LONG).await.unwrap_err();
    assert_eq!((failure.reason, failure.detail.contains("more than 64 MiB")), (Reason::Protocol, true), "{failure}");
}

/// Whatever a tool starts, and however it takes being asked to end.
const STUBBORN: &str = "trap '' TERM; echo $$ >leader; (trap '' TERM; echo $(exec sh -c 'echo $PPID') >other; \
    while :; do sleep 1; done) & while :; do sleep 1; done";

#[tokio::test]
async fn a_tool_that_hangs_is_ended_with_all_that_it_started() {
    let fake = fake(STUBBORN);
    let run = fake.run(LONG);
    tokio::pin!(run);
    fake.started(&mut run).await;
    // Its time is up.
    tokio::time::pause();
    tokio::time::advance(LONG).await;
    let failure = run.await.unwrap_err();
    tokio::time::resume();
    assert_eq!(failure.reason, Reason::Timeout, "{failure}");
    fake.gone("leader").await;
    fake.gone("other").await;
}

#[tokio::test]
async fn a_run_that_is_dropped_ends_its_tool() {
    let fake = fake(STUBBORN);
    {
        let run = fake.run(LONG);
        tokio::pin!(run);
        fake.started(&mut run).await;
    }
    fake.gone("leader").await;
    fake.gone("other").await;
}

#[test]
fn a_runtime_that_ends_ends_the_tools() {
    let fake = fake(STUBBORN);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let run = fake.run(LONG);
        tokio::pin!(run);
        fake.started(&mut run).await;
    });
    drop(runtime);
    let waits = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    waits.block_on(async {
        fake.gone("leader").await;
        fake.gone("other").await;
    });
}

#[tokio::test]
async fn what_a_tool_leaves_behind_is_ended_and_not_waited_for() {
    let fake =
        fake("(echo $(exec sh -c 'echo $PPID') >other; exec sleep 600) & while [ ! -s other ]; do :; done; echo '[1]'");
    assert_eq!(fake.run(LONG).await.unwrap().to_string(), "[1]");
    fake.gone("other").await;
}

#[test]
fn keys_are_checked() {
    let read =
        |keys: &str| config::<Keys>(Path::new("/"), keys, &Files::new(false)).map(|_| ()).unwrap_err().join("\n");
    assert!(read("program = \"bin/tool\"").contains("an absolute path"));
    assert!(read("environment = { A = \"plain\" }").contains("`A`: a secret is not written in the configuration"));
    assert!(read("environment = 5").contains("expected a table"));
    assert!(read("listing_interval = \"1s\"").contains("must be from 5s to 31d"));
}
