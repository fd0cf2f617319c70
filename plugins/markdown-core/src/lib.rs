//! What the versions of the sample plugin `markdown` render.
//!
//! A library of its own, so that a test or a demo can compare the answer of a
//! loaded version with the same function called directly. It knows nothing of
//! plugins, limits or configuration files.

#![deny(unsafe_code)]

mod anchors;

use pulldown_cmark::{Options, Parser, html};
use serde::Deserialize;

/// Markdown as CommonMark has it.
///
/// ```
/// assert_eq!(markdown_core::render_v1("*hi*"), "<p><em>hi</em></p>\n");
/// ```
pub fn render_v1(markdown: &str) -> String {
    let mut page = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut page, Parser::new(markdown));
    page
}

/// CommonMark with tables, footnotes, strikethrough, and an id on every
/// heading, made from its text.
///
/// ```
/// use markdown_core::{Anchors, render_v2};
///
/// let page = render_v2("# Hello, you", &Anchors::default());
/// assert_eq!(page, "<h1 id=\"hello-you\">Hello, you</h1>\n");
/// ```
pub fn render_v2(markdown: &str, anchors: &Anchors) -> String {
    let mut page = String::with_capacity(markdown.len() * 3 / 2);
    let parser = Parser::new_ext(markdown, extensions());
    if anchors.enabled {
        html::push_html(&mut page, anchors::add(parser, &anchors.prefix).into_iter());
    } else {
        html::push_html(&mut page, parser);
    }
    page
}

/// The ids that [`render_v2`] gives to headings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anchors {
    /// Whether headings get ids. Default: yes.
    pub enabled: bool,
    /// What every id begins with; keeps two texts on one page apart. Default:
    /// empty.
    pub prefix: String,
}

impl Default for Anchors {
    fn default() -> Self {
        Anchors { enabled: true, prefix: String::new() }
    }
}

fn extensions() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENDED: &str = "| a | b |\n|---|---|\n| 1 | 2 |\n\n~~old~~ new[^why]\n\n[^why]: because\n";

    #[test]
    fn the_first_version_leaves_extensions_as_text() {
        let page = render_v1(EXTENDED);
        assert!(!page.contains("<table>"), "{page}");
        assert!(page.contains("~~old~~"), "{page}");
    }

    #[test]
    fn the_second_version_renders_tables_footnotes_and_strikethrough() {
        let page = render_v2(EXTENDED, &Anchors::default());
        for wanted in ["<table>", "<del>old</del>", "footnote-definition"] {
            assert!(page.contains(wanted), "no {wanted} in {page}");
        }
    }

    #[test]
    fn without_anchors_the_second_version_is_the_library_with_its_extensions() {
        let text = format!("# Title\n\n{EXTENDED}");
        let mut expected = String::new();
        html::push_html(&mut expected, Parser::new_ext(&text, extensions()));
        let anchors = Anchors { enabled: false, ..Anchors::default() };
        assert_eq!(render_v2(&text, &anchors), expected);
    }
}
