//! Prometheus' text format, as scripts write it for the node exporter.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

/// A line of it. Labels are in the order in which they are written.
#[derive(Debug, PartialEq)]
pub struct Sample<'t> {
    /// The metric's name.
    pub name: &'t str,
    /// Names and values.
    pub labels: Vec<(&'t str, String)>,
    /// May be infinite, or no number.
    pub value: f64,
}

/// Gives every sample to `each`.
///
/// # Errors
/// What is wrong, with the number of its line, without any of its text. A file whose last line has no end was cut off.
pub fn read<'t>(bytes: &'t [u8], mut each: impl FnMut(Sample<'t>)) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line has no end: it was cut off, or is being written".to_owned());
    }
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        each(sample(line).map_err(|problem| format!("line {}: {problem}", at + 1))?);
    }
    Ok(())
}

const BLANK: [char; 2] = [' ', '\t'];

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = name(line, true).ok_or("it does not begin with the name of a metric")?;
    let rest = rest.trim_start_matches(BLANK);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split(BLANK).filter(|word| !word.is_empty());
    let value = words.next().ok_or("there is no value")?.parse().map_err(|_| "the value is no number")?;
    if words.next().is_some_and(|stamp| stamp.parse::<i64>().is_err()) {
        return Err("the timestamp is no whole number");
    }
    if words.next().is_some() {
        return Err("there is more than a value and a timestamp");
    }
    Ok(Sample { name, labels, value })
}

/// Names and values.
type Labels<'t> = Vec<(&'t str, String)>;

/// The labels and what follows their brace.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANK);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (label, after) = name(rest, false).ok_or("a label has no name")?;
        let after = after.trim_start_matches(BLANK).strip_prefix('=').ok_or("a label has no `=`")?;
        let after = after.trim_start_matches(BLANK).strip_prefix('"').ok_or("a label's value is not quoted")?;
        let (value, after) = quoted(after)?;
        if labels.iter().any(|(known, _)| *known == label) {
            return Err("a label is there twice");
        }
        labels.push((label, value));
        rest = after.trim_start_matches(BLANK);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("there is no `,` or `}` after a label"),
        }
    }
}

/// A value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("a label's value has an unknown escape"),
            },
            c => value.push(c),
        }
    }
    Err("a label's value has no closing quote")
}

/// A name, and what follows it. Those of metrics may have colons.
fn name(text: &str, is_metric: bool) -> Option<(&str, &str)> {
    let belongs = |c: char| c.is_ascii_alphanumeric() || c == '_' || is_metric && c == ':';
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}
