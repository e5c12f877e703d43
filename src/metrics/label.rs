//! Label sets: the key by which a series is found, and the text it is written with.

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

/// The n-th value of a key.
pub(super) fn value(key: &[u8], n: usize) -> Option<&[u8]> {
    key.split(|byte| *byte == SEPARATOR).nth(n)
}

/// Renders the label set `identity` plus names and values, without braces. Values beyond the names are whole pairs,
/// `name=value`. An empty value is left out: to Prometheus an empty label is an absent one.
pub(super) fn render(identity: &str, names: &[&str], key: &[u8]) -> Box<str> {
    let mut text = String::with_capacity(identity.len() + key.len() + 16 * names.len());
    text.push_str(identity);
    let mut names = names.iter();
    for value in key.split(|byte| *byte == SEPARATOR) {
        let value = String::from_utf8_lossy(value);
        match (names.next(), value.split_once('=')) {
            (Some(name), _) => push_pair(&mut text, name, &value),
            (None, Some((name, value))) => push_pair(&mut text, name, value),
            (None, None) => {}
        }
    }
    text.into()
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(LONGEST_VALUE)]
}

/// Appends `name="value"` with the value escaped, after a comma if `text` is not empty; nothing if the value is empty.
pub(super) fn push_pair(text: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    for character in cut(value).chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(names: &[&str], values: &[&str]) -> Box<str> {
        let mut key = Vec::new();
        push_key(&mut key, values);
        render("probe=\"p\"", names, &key)
    }

    #[test]
    fn values_are_escaped_and_cut() {
        assert_eq!(&*rendered(&["a"], &["x\"y\\z\n"]), "probe=\"p\",a=\"x\\\"y\\\\z\\n\"");
        assert_eq!(rendered(&["a"], &[&"ä".repeat(5_000)]).len(), "probe=\"p\",a=\"\"".len() + LONGEST_VALUE);
    }

    #[test]
    fn an_empty_value_is_an_absent_label() {
        assert_eq!(&*rendered(&["a", "b"], &["", "2"]), "probe=\"p\",b=\"2\"");
    }

    #[test]
    fn values_beyond_the_names_are_pairs() {
        assert_eq!(&*rendered(&["a"], &["1", "tier=gold=1"]), "probe=\"p\",a=\"1\",tier=\"gold=1\"");
    }

    #[test]
    fn keys_tell_values_apart() {
        let key = |values: &[&str]| {
            let mut key = Vec::new();
            push_key(&mut key, values);
            key
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["", "a"]));
    }
}
