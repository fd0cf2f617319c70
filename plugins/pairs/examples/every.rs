//! The plugin `every`: an implementation of the interface of all ways to cross.

#![deny(unsafe_code)]

use pairs::every::{Every, Field, Level, Span};
use replug_plugin_api::{
    abi_stable::std_types::{ROption, RStr},
    prelude::*,
};
use std::sync::atomic::{AtomicU64, Ordering};

struct All {
    touched: AtomicU64,
    name: String,
    level: Level,
}

/// Constants of the library: gone when it is unmapped.
const FIELDS: &[Field<'static>] = &[Field { key: RStr::from_str("a"), value: RStr::from_str("1") }];

impl Plugin for All {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(All { touched: AtomicU64::new(0), name: "every".to_owned(), level: Level::High })
    }
}

impl Every for All {
    fn touch(&self) {
        // A count that orders nothing.
        self.touched.fetch_add(1, Ordering::Relaxed);
    }

    fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    fn sum(&self, list: &[u64], more: u64) -> u64 {
        list.iter().sum::<u64>() + more
    }

    fn double(&self, list: &mut [u32], count: &mut u64) {
        *count += list.len() as u64;
        for item in list {
            *item *= 2;
        }
    }

    fn widen(&self, span: &mut Span) {
        span.end += 1;
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn fields(&self) -> &[Field<'_>] {
        FIELDS
    }

    fn level(&self) -> &Level {
        &self.level
    }

    fn split<'a>(&'a self, line: &'a str) -> Result<Field<'a>> {
        let (key, value) = line.split_once('=').ok_or_else(|| Error::new("every.no_field", line))?;
        Ok(Field { key: key.into(), value: value.into() })
    }

    fn find<'a>(&'a self, fields: &'a [Field<'a>], key: &str) -> ROption<RStr<'a>> {
        fields.iter().find(|field| field.key == key).map(|field| field.value).into()
    }

    fn upper(&self, text: &str) -> String {
        text.to_uppercase()
    }

    fn quote(&self, text: &str) -> Result<String> {
        if text.contains('"') {
            return Err(Error::new("every.quoted", text).retryable());
        }
        Ok(format!("\"{text}\""))
    }

    fn spans(&self, text: &str) -> Vec<Span> {
        let mut begin = 0;
        let words = text.split(' ').map(|word| {
            let end = begin + word.len() as u32;
            let span = Span { begin, end };
            begin = end + 1;
            span
        });
        words.collect()
    }

    fn words<'a>(&'a self, line: &'a str) -> Vec<RStr<'a>> {
        line.split(' ').map(RStr::from_str).collect()
    }

    fn half(&self, number: u64) -> Result<u64> {
        if number % 2 == 1 {
            return Err(Error::new("every.odd", format!("{number} is odd")));
        }
        Ok(number / 2)
    }

    fn nickname(&self, of: Level) -> Result<&str> {
        match of {
            Level::High => Ok(&self.name),
            Level::Low => Err(Error::new("every.low", "nobody speaks of it")),
        }
    }

    fn panic(&self, text: &str) -> u64 {
        panic!("{text}")
    }
}

export!(All, name = "every", version = "1.0.0", interfaces = [dyn Every]);
