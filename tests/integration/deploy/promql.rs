//! Which metrics and labels a query names. Whether it is a query at all is for Prometheus to say; what it has accepted is read
//! here.

use std::collections::BTreeSet;
use std::iter::Peekable;

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Metrics, each with the labels that it is chosen by.
    pub selectors: Vec<(String, BTreeSet<String>)>,
    /// Labels by which series are put together or matched.
    pub grouping: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// What follows them in parentheses is labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

impl Names {
    /// Reads a query.
    pub fn of(query: &str) -> Self {
        let mut names = Self::default();
        let mut tokens = tokens(query).into_iter().peekable();
        while let Some(token) = tokens.next() {
            let Token::Word(word) = token else { continue };
            let next = tokens.peek().cloned();
            if GROUPING.contains(&&*word) {
                if next == Some(Token::Sign('(')) {
                    names.grouping.extend(words(&mut tokens, ')'));
                }
            } else if next == Some(Token::Sign('{')) {
                names.selectors.push((word, words(&mut tokens, '}')));
            } else if !OPERATORS.contains(&&*word) && !is_function(next.as_ref()) {
                names.selectors.push((word, BTreeSet::new()));
            }
        }
        names
    }
}

/// `sum(...)`, or `sum by (...) (...)`.
fn is_function(next: Option<&Token>) -> bool {
    match next {
        Some(Token::Sign(sign)) => *sign == '(',
        Some(Token::Word(word)) => word == "by" || word == "without",
        None => false,
    }
}

fn words(tokens: &mut Peekable<impl Iterator<Item = Token>>, end: char) -> BTreeSet<String> {
    let inside = tokens.take_while(|token| *token != Token::Sign(end));
    inside.filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None }).collect()
}

/// Without strings, numbers and ranges, which name nothing.
fn tokens(query: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = query.chars().peekable();
    let in_word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    while let Some(first) = rest.next() {
        match first {
            '"' | '\'' => {
                while let Some(inner) = rest.next().filter(|inner| *inner != first) {
                    if inner == '\\' {
                        rest.next();
                    }
                }
            }
            '[' => while rest.next().is_some_and(|inner| inner != ']') {},
            _ if in_word(&first) => {
                let mut word = String::from(first);
                while let Some(more) = rest.next_if(in_word) {
                    word.push(more);
                }
                if !first.is_ascii_digit() {
                    found.push(Token::Word(word));
                }
            }
            _ if first.is_whitespace() => {}
            _ => found.push(Token::Sign(first)),
        }
    }
    found
}

#[test]
fn a_query_names_metrics_and_labels_and_nothing_else() {
    let query = r#"topk(3, sum by (le, a) (rate(one{b="x{y}", c!~"d\"e"}[5m])) / on (f) group_left () two) > 0.5e3 or vector(0) and three offset 1h"#;
    let set = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let selector = |name: &str, labels: &[&str]| (name.to_owned(), set(labels));
    let selectors = vec![selector("one", &["b", "c"]), selector("two", &[]), selector("three", &[])];
    assert_eq!(Names::of(query), Names { selectors, grouping: set(&["le", "a", "f"]) });
}
