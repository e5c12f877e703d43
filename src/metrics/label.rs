//! Label sets: the key by which a series is found, and the text it is written with. A label set is rendered once, when
//! its series appears; keys are compared with that text, so that nothing but the text is kept.

use memchr::memchr3;

/// Separates label values in a key; no UTF-8 text contains it.
const SEPARATOR: u8 = 0xff;

/// Label values longer than this are cut, so that no peer decides how large a scrape is.
const LONGEST_VALUE: usize = 1024;

/// Appends the label values to `key`, so that values which are written differently make different keys. They are cut
/// here and not as they are written: two that are cut alike must be one series, because Prometheus refuses a scrape that
/// has a series twice.
pub(super) fn push_key(key: &mut Vec<u8>, values: &[&str]) {
    for value in values {
        key.extend_from_slice(cut(value).as_bytes());
        key.push(SEPARATOR);
    }
}

/// Appends the label set `identity` plus names and values, without braces.
pub(super) fn render(text: &mut Vec<u8>, identity: &[u8], names: &[&str], key: &[u8]) {
    text.extend_from_slice(identity);
    let mut first = identity.is_empty();
    for (name, value) in pairs(names, key) {
        push_pair(text, &mut first, name, value);
    }
}

/// The label set that the given pairs make.
pub(super) fn render_identity<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Box<[u8]> {
    let (mut text, mut first) = (Vec::new(), true);
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        push_pair(&mut text, &mut first, name.as_bytes(), cut(value).as_bytes());
    }
    text.into()
}

/// Whether a rendered label set is `identity`, whose length is given, plus these names and values.
pub(super) fn is(text: &[u8], identity: usize, names: &[&str], key: &[u8]) -> bool {
    let mut rest = &text[identity..];
    let mut first = identity == 0;
    for (name, value) in pairs(names, key) {
        let start: &[u8] = if std::mem::take(&mut first) { b"" } else { b"," };
        let after = rest.strip_prefix(start).and_then(|rest| rest.strip_prefix(name));
        let after = after.and_then(|rest| rest.strip_prefix(b"=\"")).and_then(|rest| strip_escaped(rest, value));
        match after.and_then(|rest| rest.strip_prefix(b"\"")) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Whether the rendered label set has a label of this name with this value.
pub(super) fn has(text: &[u8], name: &str, value: &str) -> bool {
    let found = rendered_pairs(text).find(|(rendered, _)| *rendered == name.as_bytes());
    found.is_some_and(|(_, rendered)| strip_escaped(rendered, cut(value).as_bytes()) == Some(b""))
}

/// The names and values of a rendered label set; values are escaped still.
pub(super) fn rendered_pairs(mut text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let name_end = text.iter().position(|byte| *byte == b'=')?;
        let (name, quoted) = (&text[..name_end], &text[name_end + 2..]);
        let mut end = memchr::memchr2(b'"', b'\\', quoted)?;
        while quoted[end] == b'\\' {
            end += 2 + memchr::memchr2(b'"', b'\\', &quoted[end + 2..])?;
        }
        text = quoted.get(end + 2..).unwrap_or_default();
        Some((name, &quoted[..end]))
    })
}

/// Appends an escaped value as it was before it was escaped.
pub(super) fn unescape(out: &mut Vec<u8>, mut escaped: &[u8]) {
    while let Some(at) = memchr::memchr(b'\\', escaped) {
        out.extend_from_slice(&escaped[..at]);
        out.push(if escaped[at + 1] == b'n' { b'\n' } else { escaped[at + 1] });
        escaped = &escaped[at + 2..];
    }
    out.extend_from_slice(escaped);
}

/// The pairs that a key makes. Values beyond the names are whole pairs, `name=value`. An empty value is left out: to
/// Prometheus an empty label is an absent one.
fn pairs<'a>(names: &'a [&'a str], key: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let values = key.split(|byte| *byte == SEPARATOR).enumerate();
    let pairs = values.filter_map(|(nth, value)| match names.get(nth) {
        Some(name) => Some((name.as_bytes(), value)),
        None => {
            let equals = value.iter().position(|byte| *byte == b'=')?;
            Some((&value[..equals], &value[equals + 1..]))
        }
    });
    pairs.filter(|(_, value)| !value.is_empty())
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(LONGEST_VALUE)]
}

/// Appends `name="value"` with the value escaped, after a comma unless it is the first.
fn push_pair(text: &mut Vec<u8>, first: &mut bool, name: &[u8], mut value: &[u8]) {
    if !std::mem::take(first) {
        text.push(b',');
    }
    text.extend_from_slice(name);
    text.extend_from_slice(b"=\"");
    while let Some((at, escape)) = next_escape(value) {
        text.extend_from_slice(&value[..at]);
        text.extend_from_slice(escape);
        value = &value[at + 1..];
    }
    text.extend_from_slice(value);
    text.push(b'"');
}

/// What follows the escaped form of `value` at the start of `text`, if that starts with it.
fn strip_escaped<'t>(mut text: &'t [u8], mut value: &[u8]) -> Option<&'t [u8]> {
    while let Some((at, escape)) = next_escape(value) {
        text = text.strip_prefix(&value[..at])?.strip_prefix(escape)?;
        value = &value[at + 1..];
    }
    text.strip_prefix(value)
}

/// Where the first byte that must be escaped is, and what is written for it.
fn next_escape(value: &[u8]) -> Option<(usize, &'static [u8])> {
    let at = memchr3(b'"', b'\\', b'\n', value)?;
    let escape: &[u8] = match value[at] {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        _ => b"\\n",
    };
    Some((at, escape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        push_key(&mut key, values);
        key
    }

    fn rendered(names: &[&str], values: &[&str]) -> String {
        let (mut text, key) = (Vec::new(), key(values));
        render(&mut text, b"probe=\"p\"", names, &key);
        assert!(is(&text, "probe=\"p\"".len(), names, &key), "is found again");
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn values_are_escaped_and_cut() {
        assert_eq!(rendered(&["a"], &["x\"y\\z\n"]), "probe=\"p\",a=\"x\\\"y\\\\z\\n\"");
        assert_eq!(rendered(&["a"], &[&"ä".repeat(5_000)]).len(), "probe=\"p\",a=\"\"".len() + LONGEST_VALUE);
    }

    #[test]
    fn an_empty_value_is_an_absent_label() {
        assert_eq!(rendered(&["a", "b"], &["", "2"]), "probe=\"p\",b=\"2\"");
        assert_eq!(&*render_identity([("a", ""), ("b", "2")]), b"b=\"2\"");
    }

    #[test]
    fn values_beyond_the_names_are_pairs() {
        assert_eq!(rendered(&["a"], &["1", "tier=gold=1"]), "probe=\"p\",a=\"1\",tier=\"gold=1\"");
    }

    #[test]
    fn keys_and_texts_tell_values_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["", "a"]));
        let values = ["", "a", "ab", "a\"", "a\\", "a\\\"", "a\n", "a\\n", "\\", "\\\\", "\"", "b=\"", ","];
        let tuples = || values.iter().flat_map(|x| values.iter().map(move |y| [*x, *y]));
        for one in tuples() {
            let mut text = Vec::new();
            render(&mut text, b"", &["x", "y"], &key(&one));
            for other in tuples() {
                assert_eq!(is(&text, 0, &["x", "y"], &key(&other)), one == other, "{one:?} {other:?}");
            }
            for (name, value) in [("x", one[0]), ("y", one[1])] {
                for other in values.iter().filter(|other| !other.is_empty()) {
                    assert_eq!(has(&text, name, other), value == *other, "{one:?} {name} {other:?}");
                }
            }
            let read: Vec<_> = rendered_pairs(&text)
                .map(|(name, escaped)| {
                    let mut value = Vec::new();
                    unescape(&mut value, escaped);
                    (name.to_vec(), value)
                })
                .collect();
            let written = [("x", one[0]), ("y", one[1])].into_iter().filter(|(_, value)| !value.is_empty());
            let written: Vec<_> = written.map(|(name, value)| (name.into(), value.into())).collect();
            assert_eq!(read, written);
        }
    }
}
