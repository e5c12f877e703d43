//! A table of the configuration while it is read.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::escape;
use super::source::Source;
use super::value::{Invalid, Item, Value, nearest};

/// How many expected keys an unknown one is answered with when none is near.
const MAX_LISTED: usize = 12;

/// A table of the configuration while it is read: hands out values key by key, and remembers which were asked for.
pub struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    offset: usize,
    path: String,
    asked: Vec<&'static str>,
    any_key: bool,
}

impl<'a> Section<'a> {
    pub(super) fn new(source: &'a Source<'a>, table: &'a DeTable<'a>, offset: usize, path: String) -> Self {
        Self { source, table, offset, path, asked: Vec::new(), any_key: false }
    }

    /// The whole of a file.
    pub fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(source, table, 0, String::new())
    }

    /// A key that must be there.
    pub fn required<T: Value>(&mut self, key: &'static str) -> Option<T> {
        if !self.has(key) {
            self.asked.push(key);
            self.problem(None, format!("missing field `{key}`"));
            return None;
        }
        self.optional(key)
    }

    /// A key that may be absent. Also `None` when its value is bad, which is then recorded.
    pub fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        self.checked(key, |_| Ok(()))
    }

    /// A key that may be absent, with a further check of its value. The check's message must not contain the value.
    pub fn checked<T: Value>(&mut self, key: &'static str, check: impl FnOnce(&T) -> Result<(), String>) -> Option<T> {
        let value = self.ask(key)?;
        let item = self.item(key, value);
        let checked = |value| check(&value).map_err(Invalid::new).map(|()| value);
        match T::read(&item).and_then(checked) {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.record(key, &item, invalid);
                None
            }
        }
    }

    /// A key with a default.
    pub fn or<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A nested table that may be absent. Keys that `read` does not ask for are reported as unknown.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Option<T> {
        let value = self.ask(key)?;
        let item = self.item(key, value);
        item.table(read).map_err(|invalid| self.record(key, &item, invalid)).ok()
    }

    /// An array of tables (`[[key]]`); empty when absent. `None` if any of them has no result.
    pub fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.ask(key) else { return Some(Vec::new()) };
        let item = self.item(key, value);
        let Some(elements) = item.elements() else {
            self.record(key, &item, item.expected(&format!("an array of tables, [[{key}]]")));
            return None;
        };
        let mut all = Some(Vec::new());
        for element in elements {
            let result = element.table(&mut read);
            match (result, &mut all) {
                (Ok(value), Some(list)) => list.push(value),
                (Ok(_), None) => {}
                (Err(invalid), _) => {
                    self.record(key, &element, invalid);
                    all = None;
                }
            }
        }
        all
    }

    /// Every table below `key`, whatever its name: `read` gets the name and the table.
    pub fn tables(&mut self, key: &'static str, mut read: impl FnMut(&str, &mut Section<'_>)) {
        self.section(key, |section| {
            section.each(&mut read);
            Some(())
        });
    }

    /// Every table of this one, whatever its name.
    pub fn each(&mut self, mut read: impl FnMut(&str, &mut Section<'_>)) {
        for (name, value) in self.table.iter() {
            let shown = escape(name.get_ref());
            let item = self.item(&shown, value);
            if item.toml().is_table() {
                // Cannot fail: it is a table, and the closure has a result.
                let _ = item.table(|section| {
                    read(name.get_ref(), section);
                    Some(())
                });
            } else {
                let message = format!("`{shown}`: expected a table, found {}", item.kind());
                self.source.record(name.span().start, &self.path, message);
            }
        }
        self.any_key = true;
    }

    /// Whether the key is there, with whatever value.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key is there and its value is a table.
    pub fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// Records a problem at the key's place, or at the table's when there is no key or it is absent. The message must
    /// not contain a value.
    pub fn problem(&mut self, key: Option<&str>, message: impl Into<String>) {
        let at = key.and_then(|key| self.table.get_key_value(key)).map_or(self.offset, |(key, _)| key.span().start);
        self.source.record(at, &self.path, message.into());
    }

    /// The names in the key's table with their places, whether or not the values are good; none if it is no table.
    pub fn names(&self, key: &str) -> Vec<(&'a str, usize)> {
        let table = self.table.get(key).and_then(|value| value.get_ref().as_table());
        table.into_iter().flat_map(|table| table.keys()).map(|key| (&**key.get_ref(), key.span().start)).collect()
    }

    /// Records a problem at a place of the file. The message must not contain a value.
    pub fn problem_at(&mut self, offset: usize, message: impl Into<String>) {
        self.source.record(offset, &self.path, message.into());
    }

    /// Accepts a key without reading it.
    pub fn ignore(&mut self, key: &'static str) {
        let _ = self.ask(key);
    }

    /// Accepts all other keys: the table is refused as a whole, or is for another reader.
    pub fn ignore_rest(&mut self) {
        self.any_key = true;
    }

    /// Where the table begins in its file, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The table's path, for example `probe.mongodb.orders`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this is the main file: what an included file may not decide is not for another team to decide.
    pub fn is_main(&self) -> bool {
        self.source.is_main()
    }

    /// How many problems the file has so far: more of them after a step mean that the step found some.
    pub fn problems(&self) -> usize {
        self.source.count()
    }

    fn item<'s>(&'s self, key: &'s str, value: &'s Spanned<DeValue<'s>>) -> Item<'s> {
        Item::new(value, self.source, (&self.path, key))
    }

    fn record(&self, key: &str, item: &Item<'_>, invalid: Invalid) {
        for (at, text) in invalid.0 {
            self.source.record(at.unwrap_or(item.offset()), &self.path, format!("`{key}`: {text}"));
        }
    }

    fn ask(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table.get(key)
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(&self) {
        if self.any_key {
            return;
        }
        for key in self.table.keys().filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let message = unknown(key.get_ref(), &self.asked, |name| self.has(name));
            self.source.record(key.span().start, &self.path, message);
        }
    }
}

/// What to say of a key that nobody asked for: the key that was probably meant, or those there are. `has` says whether a
/// key is there already.
pub fn unknown(found: &str, asked: &[&'static str], has: impl Fn(&str) -> bool) -> String {
    let free = asked.iter().copied().filter(|asked| !has(asked));
    let near = nearest(found, free).map(|near| (near, "?"));
    // A key that is there already was hardly meant, but one that is not near enough was less so.
    let present = || Some((nearest(found, asked.iter().copied())?, ", which is there as well?"));
    let hint = match near.or_else(present) {
        Some((near, end)) => format!(", did you mean `{near}`{end}"),
        None if asked.is_empty() || asked.len() > MAX_LISTED => String::new(),
        None => format!(", expected `{}`", asked.join("`, `")),
    };
    format!("unknown field `{}`{hint}", escape(found))
}
