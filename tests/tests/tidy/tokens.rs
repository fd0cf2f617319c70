//! Rust files as flat lists of tokens, so that no rule is fooled by the words
//! of a comment or a string.
//!
//! Comments are gone and string literals are one token each. The compiler has
//! the last word on syntax: a file that does not lex is its business.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use crate::tree::File;

/// A name, a literal, a bracket, a punctuation mark; `::` is one token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// Inside an item under `#[cfg(test)]`, or in a file of tests.
    pub(crate) in_test: bool,
}

/// The file's tokens, or none when it does not lex.
pub(crate) fn tokens(file: &File) -> Vec<Token> {
    let mut tokens = Vec::new();
    if let Ok(stream) = file.text.parse::<TokenStream>() {
        flatten(stream, &mut tokens);
    }
    if file.is_test() {
        tokens.iter_mut().for_each(|token| token.in_test = true);
    } else {
        mark_test_items(&mut tokens);
    }
    tokens
}

/// Whether the tokens at `index` read `words`.
pub(crate) fn reads(tokens: &[Token], index: usize, words: &[&str]) -> bool {
    let found = tokens[index.min(tokens.len())..].iter().map(|token| token.text.as_str());
    found.take(words.len()).eq(words.iter().copied())
}

/// The index of the bracket that closes the one at `open`.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let token = |text: String, line| Token { text, line, in_test: false };
    let mut stream = stream.into_iter().peekable();
    while let Some(tree) = stream.next() {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(name) => tokens.push(token(name.to_string(), line)),
            TokenTree::Literal(literal) => tokens.push(token(literal.to_string(), line)),
            TokenTree::Punct(mark) => {
                let half = mark.as_char() == ':' && mark.spacing() == Spacing::Joint;
                if half && stream.next_if(is_colon).is_some() {
                    tokens.push(token("::".to_owned(), line));
                } else {
                    tokens.push(token(mark.to_string(), line));
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(token(open.to_owned(), line));
                flatten(group.stream(), tokens);
                tokens.push(token(close.to_owned(), group.span_close().start().line));
            }
        }
    }
}

fn is_colon(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Punct(mark) if mark.as_char() == ':')
}

/// Marks each item under `#[cfg(test)]`, from the attribute to its end.
fn mark_test_items(tokens: &mut [Token]) {
    let mut index = 0;
    while index < tokens.len() {
        if !reads(tokens, index, &["#", "[", "cfg", "("]) {
            index += 1;
            continue;
        }
        let condition_end = closing(tokens, index + 3);
        let condition = &tokens[index + 3..condition_end];
        let says = |word: &str| condition.iter().any(|token| token.text == word);
        let attribute_end = closing(tokens, index + 1);
        if says("test") && !says("not") {
            let end = item_end(tokens, attribute_end + 1);
            tokens[index..=end].iter_mut().for_each(|token| token.in_test = true);
            index = end;
        }
        index = index.max(attribute_end) + 1;
    }
}

/// The last token of the item that begins at `index`: a `;` or a `}`.
fn item_end(tokens: &[Token], mut index: usize) -> usize {
    while index < tokens.len() {
        match tokens[index].text.as_str() {
            ";" | "," => return index,
            "{" => return closing(tokens, index),
            "(" | "[" => index = closing(tokens, index),
            _ => {}
        }
        index += 1;
    }
    tokens.len().saturating_sub(1)
}

#[test]
fn comments_and_strings_hide_words_and_test_items_are_marked() {
    let file = File {
        path: "host/engine/src/id.rs".into(),
        text: "/* unsafe */ fn a() { b::c(\"unsafe\"); }\n#[cfg(test)]\nmod tests {\n  d!();\n}\nfn e() {}"
            .into(),
    };
    let tokens = tokens(&file);
    assert!(tokens.iter().all(|token| token.text != "unsafe"));
    let found = |text: &str| tokens.iter().find(|token| token.text == text).expect("a token");
    assert_eq!((found("::").line, found("::").in_test), (1, false));
    assert_eq!((found("d").line, found("d").in_test), (4, true));
    assert_eq!((found("e").line, found("e").in_test), (6, false));
}
