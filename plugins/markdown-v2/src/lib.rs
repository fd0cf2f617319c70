//! The sample plugin `markdown`, version 2.0.0: stateless.
//!
//! It owns the text that it is given for the length of a call, and nothing
//! else. It never reads files and never calls other plugins.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `render` | Markdown (CommonMark, tables, footnotes, strikethrough) | HTML, with an id on every heading |
//! | `version` | ignored | `markdown 2.0.0` |
//!
//! # Configuration
//!
//! | key | default | says |
//! |---|---|---|
//! | `bytes_max` | 1048576 | the longest text that `render` accepts, in bytes |
//! | `anchors.enabled` | true | whether headings get ids |
//! | `anchors.prefix` | empty | what every id begins with |
//!
//! A configuration of version 1.0.0 is one of this version too.

#![deny(unsafe_code)]

use markdown_core::Anchors;
use replug_plugin_api::prelude::*;
use serde::Deserialize;

struct Markdown {
    config: Config,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    bytes_max: usize,
    anchors: Anchors,
}

impl Default for Config {
    fn default() -> Self {
        Config { bytes_max: 1024 * 1024, anchors: Anchors::default() }
    }
}

impl Plugin for Markdown {
    type Config = Config;

    fn prepare(config: Config, _: &Context) -> Result<Self> {
        Ok(Markdown { config })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("render", "Markdown in, HTML out", |markdown, call| markdown.render(call.text()?))
            .sample("# A *heading*")
            .method("version", "Names this version", |_, call| {
                let context = call.context();
                Ok(format!("{} {}", context.name(), context.version()))
            });
    }

    fn self_test(&self) -> Result<()> {
        let page = markdown_core::render_v2("~~ready~~", &self.config.anchors);
        if page != "<p><del>ready</del></p>\n" {
            return Err(Error::new("markdown.self_test", page));
        }
        Ok(())
    }
}

impl Markdown {
    fn render(&self, text: &str) -> Result<Reply> {
        let Config { bytes_max, anchors } = &self.config;
        if text.len() > *bytes_max {
            let message = format!("the text has {} bytes, more than {bytes_max}", text.len());
            return Err(Error::new("markdown.too_long", message));
        }
        Ok(Reply::from(markdown_core::render_v2(text, anchors)).with_content_type("text/html"))
    }
}

export!(Markdown, name = "markdown", version = "2.0.0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_answers_html() {
        let markdown = Markdown { config: Config::default() };
        let reply = markdown.render("# hi").expect("render");
        assert_eq!(reply.content_type(), "text/html");
        assert_eq!(reply.body(), b"<h1 id=\"hi\">hi</h1>\n");
        assert!(markdown.self_test().is_ok());
    }

    #[test]
    fn a_text_over_the_limit_is_refused_with_both_sizes() {
        let markdown = Markdown { config: Config { bytes_max: 3, ..Config::default() } };
        let error = markdown.render("1234").expect_err("too long");
        assert_eq!(error.code(), "markdown.too_long");
        assert_eq!(error.message(), "the text has 4 bytes, more than 3");
        assert!(markdown.render("123").is_ok());
    }
}
