//! A mapping of the web configuration file while it is read: the counterpart of [`Section`](crate::settings::Section).

use super::yaml::{Data, Key, Node};
use crate::settings::{Source, escape, nearest, unknown};

/// Hands out values key by key, and remembers which were asked for. Messages never contain a value.
pub(super) struct Fields<'n, 's> {
    source: &'s Source<'s>,
    path: &'static str,
    offset: usize,
    entries: &'n [(Key, Node)],
    asked: Vec<&'static str>,
}

/// A text and where it is.
#[derive(Clone, Copy)]
pub(super) struct Text<'n> {
    pub(super) offset: usize,
    pub(super) text: &'n str,
}

impl<'n, 's> Fields<'n, 's> {
    /// The fields of a value that should be a mapping; nothing counts as one without keys. `path` names it in messages.
    pub(super) fn new(source: &'s Source<'s>, path: &'static str, node: &'n Node) -> Option<Self> {
        let entries: &[_] = match &node.data {
            Data::Mapping(entries) => entries,
            Data::Null => &[],
            _ => {
                source.record(node.offset, path, format!("expected a mapping, found {}", node.kind()));
                return None;
            }
        };
        let fields = Self { source, path, offset: node.offset, entries, asked: Vec::new() };
        let mut seen = std::collections::HashSet::new();
        for (key, _) in entries.iter().filter(|(key, _)| !seen.insert(key.name.as_str())) {
            fields.problem(key.offset, "duplicate key");
        }
        Some(fields)
    }

    /// The file that the fields are in.
    pub(super) fn source(&self) -> &'s Source<'s> {
        self.source
    }

    /// Where the mapping begins.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// All keys and values, for a mapping whose keys are not fixed.
    pub(super) fn entries(&self) -> &'n [(Key, Node)] {
        self.entries
    }

    /// Records a problem at a place.
    pub(super) fn problem(&self, offset: usize, message: impl Into<String>) {
        self.source.record(offset, self.path, message.into());
    }

    /// Records a problem of a key's value.
    pub(super) fn invalid(&self, key: &str, offset: usize, message: &str) {
        self.problem(offset, format!("`{key}`: {message}"));
    }

    /// The value of a key, if there is one.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        let (_, node) = self.entries.iter().find(|(found, _)| found.name.as_str() == key)?;
        (!matches!(node.data, Data::Null)).then_some(node)
    }

    /// The text of a key, if there is one.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Text<'n>> {
        let node = self.node(key)?;
        match &node.data {
            Data::Text(text) => Some(Text { offset: node.offset, text }),
            _ => {
                self.invalid(key, node.offset, &format!("expected a single value, found {}", node.kind()));
                None
            }
        }
    }

    /// The texts of a list, if there is one. Elements of another kind are reported and left out.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Text<'n>>> {
        let node = self.node(key)?;
        let Data::List(elements) = &node.data else {
            self.invalid(key, node.offset, &format!("expected a list, found {}", node.kind()));
            return None;
        };
        let mut texts = Vec::with_capacity(elements.len());
        for element in elements {
            match &element.data {
                Data::Text(text) => texts.push(Text { offset: element.offset, text }),
                _ => {
                    let found = format!("expected a list of single values, found {}", element.kind());
                    self.invalid(key, element.offset, &found);
                }
            }
        }
        Some(texts)
    }

    /// True or false, as YAML 1.1 spells them, which is what the toolkit reads.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let text = self.text(key)?;
        match text.text {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
            _ => {
                self.invalid(key, text.offset, "expected true or false");
                None
            }
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(&self) {
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.asked.contains(&key.name.as_str())) {
            let has = |name: &str| self.entries.iter().any(|(key, _)| key.name.as_str() == name);
            self.problem(key.offset, unknown(&key.name, &self.asked, has));
        }
    }
}

/// What a name of a fixed set stands for, or which names there are.
pub(super) fn one_of<T: Copy>(found: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == found) {
        return Ok(*value);
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| escape(name)).collect();
    let hint = nearest(found, choices.iter().map(|(name, _)| *name));
    let hint = hint.map_or(String::new(), |name| format!("; did you mean {name}?"));
    Err(format!("expected {}{hint}", names.join(" or ")))
}
