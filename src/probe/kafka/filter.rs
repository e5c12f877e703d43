//! Which groups and topics are looked at.

use regex::Regex;

use crate::settings::{Invalid, Item, Section, Value};

/// How large a compiled pattern may be, in bytes: patterns that blow up are refused when the configuration is read.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression that must match a whole name.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Value for Pattern {
    fn read(item: &Item<'_>) -> Result<Self, Invalid> {
        let text = item.text("a regular expression")?;
        let anchored = format!("^(?:{text})$");
        let compiled = regex::RegexBuilder::new(&anchored).size_limit(MAX_COMPILED).build();
        compiled.map(Self).map_err(|_| Invalid::new("expected a regular expression (the syntax is that of RE2)"))
    }
}

/// Names that are allowed and not denied. Without `allow`, all are allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Filter {
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
}

impl Filter {
    /// Reads `key = { allow = ["…"], deny = ["…"] }`.
    pub(super) fn read(section: &mut Section<'_>, key: &'static str) -> Self {
        let read = |section: &mut Section<'_>| {
            let (allow, deny) = (section.optional("allow"), section.optional("deny"));
            Some(Self { allow, deny: deny.unwrap_or_default() })
        };
        section.section(key, read).unwrap_or_default()
    }

    /// Whether the name is to be looked at.
    pub(super) fn admits(&self, name: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.0.is_match(name));
        self.allow.as_ref().is_none_or(|allow| any(allow)) && !any(&self.deny)
    }

    /// Whether every name is looked at.
    pub(super) fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern(Regex::new(&format!("^(?:{text})$")).unwrap())
    }

    #[test]
    fn patterns_match_whole_names() {
        let filter = Filter { allow: Some(vec![pattern("orders|a.*")]), deny: vec![pattern("a-test")] };
        for (name, admitted) in
            [("orders", true), ("orders-2", false), ("my-orders", false), ("abc", true), ("a-test", false), ("", false)]
        {
            assert_eq!(filter.admits(name), admitted, "{name}");
        }
        assert!(Filter::default().admits("anything") && Filter::default().is_open());
    }
}
