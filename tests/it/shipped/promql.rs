//! As much of PromQL as is needed to say which series an expression asks for, and what is done with them first. Whether it is PromQL at
//! all is for Prometheus to say.

use std::collections::BTreeSet;

/// A selector of series.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric.
    pub name: String,
    /// Label, operator and value of each matcher.
    pub matchers: Vec<(String, String, String)>,
    /// What is in brackets after it.
    pub range: Option<String>,
    /// The functions and aggregations that it is an argument of, the innermost last.
    pub within: Vec<String>,
}

impl Selector {
    /// The innermost of these functions, if it is an argument of any.
    pub fn innermost(&self, of: &[&str]) -> Option<&str> {
        self.within.iter().rev().map(String::as_str).find(|function| of.contains(function))
    }
}

/// What an expression consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expression {
    pub selectors: Vec<Selector>,
    /// Labels that series are grouped, joined or aggregated by.
    pub labels: BTreeSet<String>,
    /// Labels that functions make, such as `label_replace`.
    pub made: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Range(String),
    Sign(char),
}

/// The words that a list of labels follows.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// The words that are none of a metric's.
const OTHERS: [&str; 7] = ["and", "or", "unless", "bool", "offset", "inf", "nan"];

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_:.$".contains(c);
        let (token, length) = if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else if first == '"' {
            let mut is_escaped = false;
            let end = rest[1..].find(|c| {
                let is_end = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            });
            let end = end.unwrap_or_else(|| panic!("an open string: {rest}")) + 1;
            (Token::Text(rest[1..end].to_owned()), end + 1)
        } else if first == '[' {
            let end = rest.find(']').unwrap_or_else(|| panic!("an open bracket: {rest}"));
            (Token::Range(rest[1..end].to_owned()), end + 1)
        } else {
            (Token::Sign(first), first.len_utf8())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Reads an expression.
pub fn read(text: &str) -> Expression {
    let tokens = tokens(text);
    let mut found = Expression::default();
    // The functions whose parentheses are open; nothing for those that only group.
    let mut open: Vec<String> = Vec::new();
    let mut callee = String::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let is_next = |sign| tokens.get(at) == Some(&Token::Sign(sign));
        match token {
            Token::Sign('(') => open.push(std::mem::take(&mut callee)),
            Token::Sign(')') => {
                open.pop();
            }
            Token::Word(word) if GROUPING.contains(&word.as_str()) && is_next('(') => {
                let list = tokens[at..].iter().take_while(|token| **token != Token::Sign(')'));
                let list: Vec<_> = list.collect();
                at += list.len() + 1;
                let words =
                    list.iter().filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None });
                // Also where the argument came first.
                found.labels.extend(words.cloned());
            }
            Token::Word(word) if GROUPING.contains(&word.as_str()) => {}
            Token::Word(word) if OTHERS.contains(&word.as_str()) || word.starts_with(|c: char| c.is_ascii_digit()) => {}
            Token::Word(word) if is_next('(') => callee.clone_from(word),
            Token::Word(word) if matches!(tokens.get(at), Some(Token::Word(next)) if ["by", "without"].contains(&next.as_str())) =>
            {
                callee.clone_from(word);
            }
            Token::Word(word) => {
                let (matchers, after) = if is_next('{') { matchers(&tokens, at + 1) } else { (Vec::new(), at) };
                at = after;
                let range = if let Some(Token::Range(range)) = tokens.get(at) { Some(range.clone()) } else { None };
                let within = open.iter().filter(|function| !function.is_empty()).cloned().collect();
                found.selectors.push(Selector { name: word.clone(), matchers, range, within });
            }
            Token::Text(text)
                if ["label_replace", "count_values"].map(Some).contains(&open.last().map(String::as_str)) =>
            {
                found.made.insert(text.clone());
            }
            _ => {}
        }
    }
    found
}

/// The matchers from there on, and what follows the brace.
fn matchers(tokens: &[Token], mut at: usize) -> (Vec<(String, String, String)>, usize) {
    let mut matchers = Vec::new();
    loop {
        match &tokens[at] {
            Token::Sign('}') => return (matchers, at + 1),
            Token::Sign(',') => at += 1,
            Token::Word(label) => {
                let mut operator = String::new();
                at += 1;
                while let Token::Sign(sign) = tokens[at] {
                    operator.push(sign);
                    at += 1;
                }
                let Token::Text(value) = &tokens[at] else { panic!("no value of {label}: {tokens:?}") };
                matchers.push((label.clone(), operator, value.clone()));
                at += 1;
            }
            other => panic!("{other:?} within braces: {tokens:?}"),
        }
    }
}

#[test]
fn selectors_are_read_with_what_is_around_them() {
    let text = r#"histogram_quantile(0.9, sum by (le, member) (rate(a_bucket{phase=~"x|\"}", n!="1"}[$__rate_interval])))
        > on (probe) group_left () (3 * b:c offset 1d) and label_replace(max(d) by (node) == 1, "member", "$1", "node", "(.+)") or vector(0)"#;
    let found = read(text);
    let names: Vec<_> = found.selectors.iter().map(|selector| selector.name.as_str()).collect();
    assert_eq!(names, ["a_bucket", "b:c", "d"]);
    let first = &found.selectors[0];
    let matcher = |label: &str, operator: &str, value: &str| (label.to_owned(), operator.to_owned(), value.to_owned());
    assert_eq!(first.matchers, [matcher("phase", "=~", "x|\\\"}"), matcher("n", "!=", "1")]);
    assert_eq!(first.range.as_deref(), Some("$__rate_interval"));
    assert_eq!(first.within, ["histogram_quantile", "sum", "rate"]);
    assert_eq!(first.innermost(&["sum", "max"]), Some("sum"));
    assert_eq!(found.selectors[2].within, ["label_replace", "max"]);
    assert!(["le", "member", "probe", "node"].iter().all(|label| found.labels.contains(*label)), "{:?}", found.labels);
    assert!(found.made.contains("member"));
}
