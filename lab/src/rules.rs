//! Prometheus' rules with all their durations divided, so that the rules that people use can be tried in seconds instead of hours.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result};

/// How much faster time passes for rules.
#[derive(Debug, Clone)]
pub struct Acceleration {
    factor: u32,
    thresholds: Vec<(String, u32)>,
}

impl Acceleration {
    /// Every duration is divided by `factor`: `for`, ranges, offsets, the intervals of groups.
    pub fn new(factor: u32) -> Acceleration {
        Acceleration { factor, thresholds: Vec::new() }
    }

    /// Divides a plain number of seconds in the expression of that rule as well: rules compare ages with such numbers, and only a
    /// person can tell which number is one.
    #[must_use]
    pub fn threshold(mut self, rule: &str, seconds: u32) -> Acceleration {
        self.thresholds.push((rule.to_owned(), seconds));
        self
    }

    /// Writes the accelerated copies of a folder's rule files to another folder; gives their paths. Fails if a threshold is not in
    /// exactly one place of its rule.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
        let io = |path: &Path| Error::io(path.display().to_string());
        let mut copies = Vec::new();
        let mut divided = vec![0; self.thresholds.len()];
        let entries = fs::read_dir(from).map_err(io(from))?.flatten().map(|entry| entry.path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).map_err(io(&file))?;
            let copy = to.join(file.file_name().unwrap_or_default());
            fs::write(&copy, self.rules(&text, &mut divided)).map_err(io(&copy))?;
            copies.push(copy);
        }
        for ((rule, seconds), count) in self.thresholds.iter().zip(divided) {
            if count != 1 {
                return Err(Error::Unexpected(format!("{rule} has the number {seconds} {count} times, not once")));
            }
        }
        Ok(copies)
    }

    /// The rules of a file, line by line. Knows as much of YAML as promtool's linter leaves to rule files: a key a line, expressions
    /// in the line of their key or in a block below it.
    fn rules(&self, text: &str, divided: &mut [usize]) -> String {
        let mut rule = String::new();
        // The indentation of the key `expr` while lines below it belong to it.
        let mut expression = None;
        let mut result = String::with_capacity(text.len());
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if expression.is_some_and(|key| indent <= key && !line.trim().is_empty()) {
                expression = None;
            }
            let (key, value) = line.trim_start().trim_start_matches("- ").split_once(": ").unwrap_or((line, ""));
            let rewritten = match key {
                _ if expression.is_some() => self.expression(line, &rule, divided),
                "alert" | "record" => {
                    value.clone_into(&mut rule);
                    line.to_owned()
                }
                "expr" => {
                    expression = Some(line.find("expr").unwrap_or(indent));
                    self.expression(line, &rule, divided)
                }
                "for" | "interval" | "keep_firing_for" => line.replace(value, &self.divided(value)),
                _ => line.to_owned(),
            };
            result.push_str(&rewritten);
            result.push('\n');
        }
        result
    }

    /// A line of an expression.
    fn expression(&self, line: &str, rule: &str, divided: &mut [usize]) -> String {
        let mut result = String::with_capacity(line.len());
        let (mut word_before, mut is_within) = (String::new(), false);
        for token in tokens(line) {
            // A range, or the two durations of a subquery.
            is_within = token == "[" || is_within && token != "]";
            let seconds = self.thresholds.iter().position(|(of, seconds)| of == rule && token == seconds.to_string());
            match seconds {
                _ if is_within || word_before == "offset" => result.push_str(&self.divided(token)),
                Some(at) => {
                    if let Some(count) = divided.get_mut(at) {
                        *count += 1;
                    }
                    let seconds = f64::from(self.thresholds[at].1) / f64::from(self.factor);
                    result.push_str(&seconds.to_string());
                }
                None => result.push_str(token),
            }
            if token != " " {
                token.clone_into(&mut word_before);
            }
        }
        result
    }

    /// Divides a duration; gives anything else back as it is.
    fn divided(&self, text: &str) -> String {
        match duration(text) {
            Some(whole) if !whole.is_zero() => format!("{}ms", (whole / self.factor).as_millis().max(1)),
            _ => text.to_owned(),
        }
    }

    /// Divides the waits of Alertmanager's configuration: `group_wait`, `group_interval`, `repeat_interval`.
    pub fn alertmanager(&self, text: &str) -> String {
        let lines = text.lines().map(|line| {
            let (key, value) = line.trim_start().trim_start_matches("- ").split_once(": ").unwrap_or_default();
            match key {
                "group_wait" | "group_interval" | "repeat_interval" => line.replace(value, &self.divided(value)),
                _ => line.to_owned(),
            }
        });
        lines.map(|line| line + "\n").collect()
    }
}

/// Words, strings, and what is between them. Words take in what durations and names of recorded series consist of, but for colons, which
/// subqueries have between two durations.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let is_word = |character: char| character.is_alphanumeric() || "_.".contains(character);
    let mut rest = line;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = if first == '"' {
            rest[1..].find('"').map_or(rest.len(), |end| end + 2)
        } else if is_word(first) {
            rest.find(|character| !is_word(character)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(token)
    })
}

/// Reads a duration as Prometheus writes it: `5m`, `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut whole = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            "w" => Duration::from_secs(604_800),
            "y" => Duration::from_secs(31_536_000),
            _ => return None,
        };
        whole += unit.checked_mul(number)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"# Not 5m.
groups:
  - name: for-5m
    interval: 1m
    rules:
      - record: midwatch:hello:p90_5m
        expr: rate(a_bucket{window="[5m]"}[5m]) > 3 * (midwatch:hello:p90_5m offset 1d) > 0.005
      - alert: Stalled
        # Nothing for 600 seconds.
        expr: |-
          (
            lag > 0 and time() - max_over_time(progress[1h30m:2m]) > 600
          ) * on (probe, type) group_left (owner) midwatch:owner:info

        for: 5m
        labels:
          window: 1h
        annotations:
          description: "Nothing within [5m], 600 in all."
      - alert: Slow
        expr: took > 600
"#;

    #[test]
    fn durations_and_named_thresholds_are_divided_and_nothing_else() {
        let accelerated = Acceleration::new(30).threshold("Stalled", 600);
        let mut divided = [0];
        let expected = RULES
            .replace("interval: 1m", "interval: 2000ms")
            .replace("\"}[5m]", "\"}[10000ms]")
            .replace("offset 1d", "offset 2880000ms")
            .replace("[1h30m:2m]", "[180000ms:4000ms]")
            .replace("progress[180000ms:4000ms]) > 600", "progress[180000ms:4000ms]) > 20")
            .replace("for: 5m\n", "for: 10000ms\n");
        assert_eq!(accelerated.rules(RULES, &mut divided), expected);
        assert_eq!(divided, [1]);
        // Faster than it can be told: never nothing.
        assert_eq!(Acceleration::new(1_000_000).divided("5s"), "1ms");
        assert_eq!(Acceleration::new(10).divided("0s"), "0s");
    }

    #[test]
    fn a_threshold_that_is_not_there_is_said() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("a.yml"), RULES).unwrap();
        fs::write(from.path().join("README"), "No rules.").unwrap();
        let copy = |rule: &str, seconds| Acceleration::new(60).threshold(rule, seconds).copy(from.path(), to.path());
        assert_eq!(copy("Slow", 600).unwrap(), [to.path().join("a.yml")]);
        assert!(fs::read_to_string(to.path().join("a.yml")).unwrap().contains("took > 10\n"));
        for (rule, seconds) in [("Slow", 601), ("Fast", 600)] {
            let error = copy(rule, seconds).unwrap_err().to_string();
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn waits_of_alertmanager_are_divided() {
        let text = "route:\n  group_wait: 30s\n  routes:\n    - group_interval: 5m\n      receiver: five-5m\n";
        let expected = text.replace("wait: 30s", "wait: 1000ms");
        assert_eq!(Acceleration::new(30).alertmanager(text), expected.replace("interval: 5m", "interval: 10000ms"));
    }
}
