//! An independent reader of OpenMetrics text: the parser of Prometheus' client for Python.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::{Error, Result, binary};

/// Reads a text a line, as JSON, and answers with what the parser made of it, or with what it did not like. Numbers are written
/// as text, because JSON knows no NaN.
const SCRIPT: &str = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

def exemplar(e):
    return e and {"labels": e.labels, "value": repr(float(e.value)), "time": e.timestamp and repr(float(e.timestamp))}

def sample(s):
    return {"name": s.name, "labels": s.labels, "value": repr(float(s.value)), "exemplar": exemplar(s.exemplar)}

def family(f):
    return {"name": f.name, "help": f.documentation, "type": f.type, "unit": f.unit, "samples": [sample(s) for s in f.samples]}

for line in sys.stdin:
    try:
        answer = {"families": [family(f) for f in text_string_to_metric_families(json.loads(line))]}
    except Exception as problem:
        answer = {"problem": repr(problem)}
    print(json.dumps(answer), flush=True)
"#;

/// All samples below one header.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name: that of a counter is without `_total`.
    pub name: String,
    /// What it says of itself.
    pub help: String,
    /// `counter`, `gauge`, `histogram`.
    pub kind: String,
    /// Empty if there is none.
    pub unit: String,
    /// In the order of the text.
    pub samples: Vec<Sample>,
}

/// One line that carries a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the suffix of its family's type.
    pub name: String,
    /// Its labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
    /// What the value may be traced to.
    pub exemplar: Option<Exemplar>,
}

/// An exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
    /// As Unix time.
    pub time: Option<f64>,
}

/// A running parser, for any number of texts.
#[derive(Debug)]
pub struct Parser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Parser {
    /// Starts one. It ends when this is dropped, and also when this process is killed, because its input ends then.
    pub fn start() -> Result<Parser> {
        let library = binary::PROMETHEUS_CLIENT.find()?;
        let python = || Error::io("python3");
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .env("PYTHONPATH", library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(python())?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Unexpected("python3 without pipes".to_owned()));
        };
        Ok(Parser { child, input, output: BufReader::new(output) })
    }

    /// Reads a whole text. The error says what the parser did not like.
    pub fn parse(&mut self, text: &str) -> Result<Vec<Family>> {
        let question = Value::from(text).to_string() + "\n";
        self.input.write_all(question.as_bytes()).map_err(Error::io("writing to python3"))?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(Error::io("reading from python3"))?;
        let mut answer: Value = serde_json::from_str(&answer)
            .map_err(|_| Error::Unexpected(format!("python3 answered {answer:?}: is its library whole?")))?;
        if let Some(problem) = answer["problem"].as_str() {
            return Err(Error::Unexpected(problem.to_owned()));
        }
        let families = answer["families"].take();
        let unexpected = || Error::Unexpected(format!("python3 answered {families}"));
        families.as_array().and_then(|families| families.iter().map(family).collect()).ok_or_else(unexpected)
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn family(value: &Value) -> Option<Family> {
    Some(Family {
        name: text(&value["name"])?,
        help: text(&value["help"])?,
        kind: text(&value["type"])?,
        unit: text(&value["unit"])?,
        samples: value["samples"].as_array()?.iter().map(sample).collect::<Option<_>>()?,
    })
}

fn sample(value: &Value) -> Option<Sample> {
    let exemplar = match &value["exemplar"] {
        Value::Null => None,
        exemplar => Some(self::exemplar(exemplar)?),
    };
    let (name, labels) = (text(&value["name"])?, labels(&value["labels"])?);
    Some(Sample { name, labels, value: number(&value["value"])?, exemplar })
}

fn exemplar(value: &Value) -> Option<Exemplar> {
    Some(Exemplar { labels: labels(&value["labels"])?, value: number(&value["value"])?, time: number(&value["time"]) })
}

fn labels(value: &Value) -> Option<BTreeMap<String, String>> {
    value.as_object()?.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}
