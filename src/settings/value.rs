//! Single values that check themselves.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::escape;
use super::section::Section;
use super::source::Source;
use crate::host;

/// A type that one value of the configuration can be turned into.
pub trait Value: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// What was expected and what kind of value is there; never the value itself.
    fn read(item: &Item<'_>) -> Result<Self, Invalid>;
}

/// Why a value is not usable: one or more explanations, each with its place.
#[derive(Debug)]
pub struct Invalid(pub(super) Vec<(Option<usize>, Cow<'static, str>)>);

impl Invalid {
    /// The value as a whole is not usable. The message must not contain it.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(vec![(None, message.into())])
    }

    /// What is wrong is already recorded in a section of the value.
    fn recorded() -> Self {
        Self(Vec::new())
    }

    /// Puts a word before each explanation and gives those without a place the given one.
    fn within(self, what: &str, offset: usize) -> impl Iterator<Item = (Option<usize>, Cow<'static, str>)> {
        self.0.into_iter().map(move |(at, text)| (Some(at.unwrap_or(offset)), format!("{what}: {text}").into()))
    }
}

/// A value of a configuration file together with what is needed to make sense of it.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    value: &'a Spanned<DeValue<'a>>,
    source: &'a Source<'a>,
    path: &'a str,
    key: &'a str,
}

impl<'a> Item<'a> {
    pub(super) fn new(
        value: &'a Spanned<DeValue<'a>>,
        source: &'a Source<'a>,
        (path, key): (&'a str, &'a str),
    ) -> Self {
        Self { value, source, path, key }
    }

    /// The value as TOML has it.
    pub fn toml(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// The file that the value is in.
    pub(super) fn source(&self) -> &'a Source<'a> {
        self.source
    }

    /// Where the value begins.
    pub(super) fn offset(&self) -> usize {
        self.value.span().start
    }

    /// The text, if the value is a string.
    pub fn str(&self) -> Option<&'a str> {
        self.toml().as_str()
    }

    /// The text of a string that is not empty.
    ///
    /// # Errors
    /// The value is no string or an empty one; `what` says what was expected.
    pub fn text(&self, what: &str) -> Result<&'a str, Invalid> {
        match self.str() {
            Some("") => Err(Invalid::new(format!("expected {what}, found an empty string"))),
            Some(text) => Ok(text),
            None => Err(self.expected(what)),
        }
    }

    /// The same with the number of this host in place of `{ordinal}`.
    ///
    /// # Errors
    /// As before, and the host's name has no number.
    pub fn text_of_host(&self, what: &str) -> Result<Cow<'a, str>, Invalid> {
        host::fill(self.text(what)?, self.source().without_secrets()).map_err(Invalid::new)
    }

    /// The elements, if the value is an array.
    pub fn elements(&self) -> Option<impl ExactSizeIterator<Item = Item<'a>>> {
        let item = *self;
        Some(self.toml().as_array()?.iter().map(move |value| Item { value, ..item }))
    }

    /// Says what was expected and what kind of value was found.
    pub fn expected(&self, what: &str) -> Invalid {
        Invalid::new(format!("expected {what}, found {}", self.kind()))
    }

    /// One of a fixed set of spellings.
    ///
    /// # Errors
    /// The value is none of them; the message lists them.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Result<T, Invalid> {
        let found = self.str();
        if let Some((_, value)) = choices.iter().find(|(name, _)| Some(*name) == found) {
            return Ok(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expected = format!("expected {}", names.join(" or "));
        Err(Invalid::new(match found {
            None => format!("{expected}, found {}", self.kind()),
            Some(text) => match nearest(text, choices.iter().map(|(name, _)| *name)) {
                Some(name) => format!("{expected}; did you mean \"{name}\"?"),
                None => format!("{expected}, found another string"),
            },
        }))
    }

    /// Reads the value as a table; keys that `read` does not ask for are reported.
    ///
    /// # Errors
    /// The value is no table, or `read` has no result; why is then recorded.
    pub fn table<T>(&self, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<T, Invalid> {
        let Some(table) = self.toml().as_table() else {
            return Err(self.expected("a table"));
        };
        let (path, key) = (self.path, self.key);
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let mut section = Section::new(self.source, table, self.offset(), path);
        let value = read(&mut section);
        section.finish();
        value.ok_or_else(Invalid::recorded)
    }

    /// The kind of the value, with its article.
    pub fn kind(&self) -> &'static str {
        match self.toml() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }
}

/// The one of the names that was probably meant, in whatever case.
pub fn nearest<'n>(found: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // The distance takes time in the product of both lengths, and nobody misspells a name by this much.
    if found.len() > 48 {
        return None;
    }
    let found = found.to_lowercase();
    names
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

impl Value for bool {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.toml().as_bool().ok_or_else(|| item.expected("true or false"))
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(item: &Item<'_>) -> Result<Self, Invalid> {
                let expected = || format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX);
                let Some(number) = item.toml().as_integer() else { return Err(item.expected(&expected())) };
                <$type>::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| Invalid::new(format!("expected {}", expected())))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i32, i64);

impl Value for f64 {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let number = match item.toml() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(_) => Some(i64::read(item)? as f64),
            _ => return Err(item.expected("a number")),
        };
        number.filter(|number: &f64| number.is_finite()).ok_or_else(|| Invalid::new("expected a finite number"))
    }
}

/// Any string but the empty one: for a key whose empty value means something, leave the key out.
impl Value for String {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        item.text("a string").map(str::to_owned)
    }
}

/// A path; a relative one starts at the directory of the file that it is written in.
impl Value for PathBuf {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        Ok(item.source().resolve(item.text("a path")?))
    }
}

impl Value for SocketAddr {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        const EXPECTED: &str = "an address to listen on such as \"0.0.0.0:9817\" or \"[::1]:9817\"";
        let text = item.text(EXPECTED)?;
        text.parse().map_err(|_| Invalid::new(format!("expected {EXPECTED}")))
    }
}

/// A problem for each bad element.
impl<T: Value> Value for Vec<T> {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let Some(elements) = item.elements() else { return Err(item.expected("an array")) };
        let mut values = Vec::with_capacity(elements.len());
        let mut bad = None;
        for (index, element) in elements.enumerate() {
            match T::read(&element) {
                Ok(value) => values.push(value),
                Err(invalid) => bad
                    .get_or_insert_with(Vec::new)
                    .extend(invalid.within(&format!("element {}", index + 1), element.offset())),
            }
        }
        bad.map_or(Ok(values), |bad| Err(Invalid(bad)))
    }
}

/// A table whose keys are names that the operator chooses; a problem for each bad value.
impl<T: Value> Value for BTreeMap<String, T> {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let Some(table) = item.toml().as_table() else { return Err(item.expected("a table")) };
        let mut values = Self::new();
        let mut bad = None;
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let entry = Item { value, ..*item };
            match T::read(&entry) {
                Ok(value) => drop(values.insert(name.to_owned(), value)),
                Err(invalid) => bad
                    .get_or_insert_with(Vec::new)
                    .extend(invalid.within(&format!("`{}`", escape(name)), entry.offset())),
            }
        }
        bad.map_or(Ok(values), |bad| Err(Invalid(bad)))
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_found_in_any_case() {
        let names = || ["SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509"].into_iter();
        for (found, expected) in [
            ("scram-sha-256", Some("SCRAM-SHA-256")),
            ("Scram-Sha1", Some("SCRAM-SHA-1")),
            ("MONGODB-x590", Some("MONGODB-X509")),
            ("plain", None),
        ] {
            assert_eq!(nearest(found, names()), expected, "{found}");
        }
    }
}
