//! YAML with the place of every value, as much of it as the web configuration file needs: mappings, lists and scalars.
//!
//! What makes YAML dangerous to read is refused as soon as it shows: anchors and aliases, which can stand for more than
//! memory holds, tags, merge keys, and nesting deeper than the format has. Reading stops at the first syntax error,
//! because what follows it may be anything.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};
use zeroize::Zeroizing;

use crate::settings::{Source, escape};

/// How deep values may be nested. The format needs three levels.
const MAX_DEPTH: usize = 6;

/// A value and where it begins in the text, in bytes.
pub(super) struct Node {
    pub(super) offset: usize,
    pub(super) data: Data,
}

/// What a value is. Texts are wiped from memory when dropped, because any of them may be a secret.
pub(super) enum Data {
    /// Nothing, `~` or `null`, which in this format means the same as leaving the key out.
    Null,
    /// Any other scalar, by its text. What it is to be, the key decides.
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
pub(super) struct Key {
    pub(super) offset: usize,
    pub(super) name: Zeroizing<String>,
}

impl Node {
    /// The kind of the value, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Text(_) => "a single value",
            Data::List(_) => "a list",
            Data::Mapping(_) => "a mapping",
        }
    }
}

/// The text of a file as one value. `None` if it is not YAML or more of it than is accepted; why is then recorded.
pub(super) fn parse(source: &Source<'_>, text: &str) -> Option<Node> {
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        // Without this, a file that an editor is about to write would open every door for a moment.
        source.record(0, "", "the file is empty; one that asks for nothing holds at least a comment".into());
        return None;
    }
    if let Some(offset) = text.find('\0') {
        source.record(offset, "", "the file contains a NUL byte; it is not text, or was only half written".into());
        return None;
    }
    let mut reader = Reader { events: Parser::new_from_str(text), offsets: Offsets::new(text), depth: 0 };
    match reader.file() {
        Ok(node) => Some(node),
        Err(Refused { offset, message }) => {
            source.record(offset, "", message);
            None
        }
    }
}

/// Why the text is not read on.
struct Refused {
    offset: usize,
    message: String,
}

/// From characters, in which the parser counts, to bytes. A byte order mark is not part of what the parser counts.
struct Offsets {
    bytes: Vec<usize>,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let mut bytes: Vec<_> = text.char_indices().map(|(offset, _)| offset).collect();
        bytes.push(text.len());
        Self { bytes }
    }

    fn of(&self, marker: Marker) -> usize {
        let last = self.bytes.last().copied().unwrap_or_default();
        self.bytes.get(marker.index()).copied().unwrap_or(last)
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    offsets: Offsets,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn file(&mut self) -> Result<Node, Refused> {
        let mut found = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => break,
                (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::DocumentStart(_), span) if found.is_some() => {
                    return Err(self.refused(span, "a second document; the file holds one"));
                }
                (Event::DocumentStart(_), _) => {
                    let first = self.next()?;
                    found = Some(self.node(first)?);
                }
                (_, span) => return Err(self.refused(span, "not YAML")),
            }
        }
        // Comments alone make no document.
        Ok(found.unwrap_or(Node { offset: 0, data: Data::Null }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Refused> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Err(Refused { offset: self.offsets.of(Marker::new(usize::MAX, 0, 0)), message: "not YAML".into() }),
        }
    }

    /// The parser's words say what it expected. The one of its messages that quotes the text is cut.
    fn syntax(&self, error: &ScanError) -> Refused {
        let words = error.info().split([':', '`']).next().unwrap_or_default().trim();
        Refused { offset: self.offsets.of(*error.marker()), message: format!("not YAML: {}", escape(words)) }
    }

    fn refused(&self, span: Span, message: &str) -> Refused {
        Refused { offset: self.offsets.of(span.start), message: message.to_owned() }
    }

    fn node(&mut self, (event, span): (Event<'t>, Span)) -> Result<Node, Refused> {
        let (anchor, tag) = match &event {
            Event::Alias(_) => (1, false),
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            _ => return Err(self.refused(span, "not YAML")),
        };
        if anchor != 0 {
            return Err(self.refused(span, "anchors and aliases are not accepted here"));
        }
        if tag {
            return Err(self.refused(span, "tags are not accepted here"));
        }
        if self.depth == MAX_DEPTH {
            return Err(self.refused(span, "nested too deeply"));
        }
        self.depth += 1;
        let data = match event {
            Event::Scalar(text, style, ..) => scalar(text.into_owned(), style),
            Event::SequenceStart(..) => self.list()?,
            _ => self.mapping()?,
        };
        self.depth -= 1;
        Ok(Node { offset: self.offsets.of(span.start), data })
    }

    fn list(&mut self) -> Result<Data, Refused> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Data::List(elements)),
                element => elements.push(self.node(element)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Data, Refused> {
        let mut entries = Vec::new();
        loop {
            let key = self.next()?;
            if matches!(key.0, Event::MappingEnd) {
                return Ok(Data::Mapping(entries));
            }
            let span = key.1;
            let Node { offset, data: Data::Text(name) } = self.node(key)? else {
                return Err(self.refused(span, "a key that is not a text"));
            };
            let value = self.next()?;
            entries.push((Key { offset, name }, self.node(value)?));
        }
    }
}

fn scalar(text: String, style: ScalarStyle) -> Data {
    let text = Zeroizing::new(text);
    match (style, text.as_str()) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Data::Null,
        _ => Data::Text(text),
    }
}
