//! The configuration in effect, rendered for people.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

/// Renders the files from their values, in TOML.
///
/// Valid configurations hold no secret in a value, because the types of secrets refuse plain strings and addresses
/// refuse user information. The masks below are for what a free-form key may hold all the same.
pub(super) fn render(texts: &[(Arc<Path>, Arc<str>)]) -> String {
    let mut out = String::new();
    for (path, text) in texts {
        let _ = writeln!(out, "# {}", path.to_string_lossy().escape_debug());
        // Only files that were parsed before are in effect.
        if let Ok(table) = DeTable::parse(text) {
            body(&mut out, "", table.get_ref());
        }
        out.push('\n');
    }
    out
}

/// A table's values, then its sub-tables with their headers.
fn body(out: &mut String, path: &str, table: &DeTable<'_>) {
    let is_table = |value: &DeValue<'_>| value.is_table() && !names_secret(value);
    for (key, value) in table.iter().filter(|(_, value)| !is_table(value.get_ref()) && !is_tables(value.get_ref())) {
        let _ = write!(out, "{} = ", name(key.get_ref()));
        inline(out, key.get_ref(), value.get_ref());
        out.push('\n');
    }
    for (key, value) in table {
        let path = if path.is_empty() { name(key.get_ref()) } else { format!("{path}.{}", name(key.get_ref())) };
        match value.get_ref() {
            DeValue::Table(table) if is_table(value.get_ref()) => {
                if table.values().any(|value| !value.get_ref().is_table()) || table.is_empty() {
                    let _ = writeln!(out, "\n[{path}]");
                }
                body(out, &path, table);
            }
            DeValue::Array(list) if is_tables(value.get_ref()) => {
                for table in list.iter().filter_map(|element| element.get_ref().as_table()) {
                    let _ = writeln!(out, "\n[[{path}]]");
                    body(out, &path, table);
                }
            }
            _ => {}
        }
    }
}

/// `{ file = … }` or `{ env = … }`, which stays on its line.
fn names_secret(value: &DeValue<'_>) -> bool {
    value.as_table().is_some_and(|table| {
        table.len() == 1
            && table.iter().all(|(key, value)| matches!(&**key.get_ref(), "file" | "env") && value.get_ref().is_str())
    })
}

fn is_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(|element| element.get_ref().is_table()))
}

fn inline(out: &mut String, key: &str, value: &DeValue<'_>) {
    let _ = match value {
        DeValue::String(text) if hidden(key, text) => write!(out, "\"<hidden>\""),
        DeValue::String(text) => write!(out, "{}", quoted(text)),
        DeValue::Integer(number) => write!(out, "{number}"),
        DeValue::Float(number) => write!(out, "{number}"),
        DeValue::Boolean(value) => write!(out, "{value}"),
        DeValue::Datetime(value) => write!(out, "{value}"),
        DeValue::Array(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                inline(out, key, element.get_ref());
            }
            write!(out, "]")
        }
        DeValue::Table(table) => {
            out.push('{');
            for (index, (key, value)) in table.iter().enumerate() {
                let _ = write!(out, "{} {} = ", if index == 0 { "" } else { "," }, name(key.get_ref()));
                inline(out, key.get_ref(), value.get_ref());
            }
            write!(out, " }}")
        }
    };
}

/// Whether a string is better not shown: its key sounds like a credential, or it is a URL with user information.
fn hidden(key: &str, text: &str) -> bool {
    const WORDS: &[&str] = &["password", "passwd", "passphrase", "secret", "token", "credential", "api_key", "apikey"];
    let key = key.to_ascii_lowercase();
    let userinfo = |rest: &str| rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'));
    // `secret_dirs` names places, not secrets.
    (key != "secret_dirs" && WORDS.iter().any(|word| key.contains(word)))
        || text.split_once("://").is_some_and(|(_, rest)| userinfo(rest))
}

fn name(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_values_and_hides_what_sounds_secret() {
        let text = "# a comment with hunter2\n[server]\nlisten = '0.0.0.0:1'\n[[include]]\nfiles = 'x/*.toml'\nsecret_dirs = ['/s']\n\
                    [probe.t.a]\npassword = { file = '/run/p' }\nslo = { objective = 0.9, latency = '1s' }\nn = 0x10\nurl = 'http://u:hunter2@h/'\n\
                    [probe.t.a.info]\napi_token = 'hunter2'\n\"a b\" = 'say \"x\"'\n";
        let out = render(&[(Path::new("m.toml").into(), text.into())]);
        assert!(!out.contains("hunter2"), "{out}");
        for line in [
            "# m.toml",
            "[[include]]",
            "secret_dirs = [\"/s\"]",
            "password = { file = \"/run/p\" }",
            "[probe.t.a.slo]",
            "n = 0x10",
            "url = \"<hidden>\"",
            "api_token = \"<hidden>\"",
            "\"a b\" = \"say \\\"x\\\"\"",
        ] {
            assert!(out.contains(line), "{line} in\n{out}");
        }
        DeTable::parse(&out).expect("what is rendered is TOML");
    }
}
