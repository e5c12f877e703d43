//! Child processes of the benchmark's own: what must not share a heap with anything else is measured in one of them.
//!
//! A child is this program with arguments. It prints a line of numbers when it is ready, and then one for each line that it
//! reads. It ends with its input.

use std::io::{BufRead as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::Outcome;

/// Longer than anything takes that a child is asked for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A child, ready to be asked.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts one; says what it printed when it was ready.
    pub async fn start(arguments: &[&str]) -> Outcome<(Self, Vec<f64>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let input = process.stdin.take().ok_or("no way to ask")?;
        let output = BufReader::new(process.stdout.take().ok_or("no answers")?).lines();
        let mut child = Self { process, input, output };
        let ready = child.answer().await?;
        Ok((child, ready))
    }

    /// Asks for something.
    pub async fn ask(&mut self, what: &str) -> Outcome<Vec<f64>> {
        self.input.write_all(format!("{what}\n").as_bytes()).await?;
        self.answer().await
    }

    /// Ends it, and waits for that: its memory is free then.
    pub async fn end(self) -> Outcome<()> {
        let Self { mut process, input, output } = self;
        drop((input, output));
        timeout(PATIENCE, process.wait()).await??;
        Ok(())
    }

    async fn answer(&mut self) -> Outcome<Vec<f64>> {
        let line = timeout(PATIENCE, self.output.next_line()).await??.ok_or("a child ended early")?;
        Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

/// The child's side: says that it is ready, then answers each line.
#[allow(clippy::print_stdout, reason = "its parent reads it")]
pub fn answer_all(ready: &[f64], mut answer: impl FnMut(&str) -> Outcome<Vec<f64>>) -> Outcome<()> {
    let say = |numbers: &[f64]| {
        println!("{}", numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        std::io::stdout().flush()
    };
    say(ready)?;
    for line in std::io::stdin().lock().lines() {
        say(&answer(&line?)?)?;
    }
    Ok(())
}
