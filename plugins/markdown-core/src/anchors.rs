//! Ids for headings: readable, and unique within one page.
//!
//! Works on the stream of parser events, so that HTML is written by the library
//! alone. Ids that the page has from elsewhere (footnotes) are never given out
//! again.

use pulldown_cmark::{CowStr, Event, Tag, TagEnd};
use std::collections::{HashMap, HashSet};

/// The same events, with an id on every heading.
pub(crate) fn add<'a>(events: impl Iterator<Item = Event<'a>>, prefix: &str) -> Vec<Event<'a>> {
    let mut events: Vec<_> = events.collect();
    let mut ids = Ids::taken_by(&events);
    let mut open: Option<(usize, String)> = None;
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { .. }) => open = Some((at, String::new())),
            Event::Text(text) | Event::Code(text) => {
                if let Some((_, title)) = &mut open {
                    title.push_str(text);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some((_, title)) = &mut open {
                    title.push(' ');
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some((start, title)) = open.take()
                    && let Event::Start(Tag::Heading { id, .. }) = &mut events[start]
                {
                    *id = Some(CowStr::from(ids.give(&format!("{prefix}{}", slug(&title)))));
                }
            }
            _ => {}
        }
    }
    events
}

/// Letters and digits in lower case, words joined by `-`.
fn slug(title: &str) -> String {
    let words = title
        .split(|letter: char| letter.is_whitespace() || letter == '-')
        .map(|word| {
            word.chars()
                .filter(|letter| letter.is_alphanumeric() || *letter == '_')
                .flat_map(char::to_lowercase)
                .collect::<String>()
        })
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>();
    if words.is_empty() { "section".to_owned() } else { words.join("-") }
}

/// The ids of one page.
struct Ids {
    taken: HashSet<String>,
    /// The number to try next for a slug, so that many equal headings cost no
    /// more than as many different ones.
    next: HashMap<String, u64>,
}

impl Ids {
    fn taken_by(events: &[Event<'_>]) -> Self {
        let taken = events
            .iter()
            .filter_map(|event| match event {
                Event::Start(Tag::FootnoteDefinition(label)) => Some(label.to_string()),
                _ => None,
            })
            .collect();
        Ids { taken, next: HashMap::new() }
    }

    /// `slug`, or the first free of `slug-1`, `slug-2`, …
    fn give(&mut self, slug: &str) -> String {
        if self.taken.insert(slug.to_owned()) {
            return slug.to_owned();
        }
        let next = self.next.entry(slug.to_owned()).or_insert(1);
        loop {
            let id = format!("{slug}-{next}");
            *next += 1;
            if self.taken.insert(id.clone()) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Anchors, render_v2};
    use proptest::prelude::*;

    fn ids(markdown: &str) -> Vec<String> {
        let page = render_v2(markdown, &Anchors::default());
        page.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn ids_come_from_the_text_of_the_heading() {
        assert_eq!(slug("What's *new* in 2.0?"), "whats-new-in-20");
        assert_eq!(slug("Größe - Maß"), "größe-maß");
        assert_eq!(slug("!?"), "section");
        assert_eq!(ids("# Call `render` *now*"), ["call-render-now"]);
    }

    #[test]
    fn equal_headings_get_different_ids() {
        assert_eq!(ids("# a\n\n# a 1\n\n# a\n\n# a\n"), ["a", "a-1", "a-2", "a-3"]);
    }

    #[test]
    fn a_heading_does_not_take_the_id_of_a_footnote() {
        assert_eq!(ids("# why\n\nx[^why]\n\n[^why]: y\n"), ["why-1", "why"]);
    }

    #[test]
    fn the_prefix_stands_before_every_id() {
        let anchors = Anchors { prefix: "doc-".into(), ..Anchors::default() };
        assert_eq!(render_v2("## A", &anchors), "<h2 id=\"doc-a\">A</h2>\n");
    }

    proptest! {
        #[test]
        fn ids_are_unique_on_a_page(titles in prop::collection::vec("[aA][ -]?[12]?", 0..20)) {
            let page: String = titles.iter().map(|title| format!("# {title}\n\n")).collect();
            let found = ids(&page);
            prop_assert_eq!(found.len(), titles.len());
            let distinct: HashSet<_> = found.iter().collect();
            prop_assert_eq!(distinct.len(), found.len());
        }
    }
}
