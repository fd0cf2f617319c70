//! Every way in which arguments and results cross.

use abi_stable::{
    StableAbi,
    std_types::{ROption, RStr},
};
use replug_plugin_api::{
    Result,
    interface::{Portable, interface},
};

/// A struct that borrows.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
pub struct Field<'a> {
    /// Before the sign.
    pub key: RStr<'a>,
    /// Behind it.
    pub value: RStr<'a>,
}

/// A struct that borrows nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
pub struct Span {
    /// First byte.
    pub begin: u32,
    /// Behind the last byte.
    pub end: u32,
}

/// An enum.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
pub enum Level {
    /// Not loud.
    Low,
    /// Loud.
    High,
}

/// All of them.
#[interface(id = "pairs.every", version = "1.0.0")]
pub trait Every {
    /// Nothing in, nothing out: counts.
    fn touch(&self);
    /// How often that was called.
    fn touched(&self) -> u64;
    /// A list and a number in, a number out.
    fn sum(&self, list: &[u64], more: u64) -> u64;
    /// Changes what the caller lends; its count of elements is added to `count`.
    fn double(&self, list: &mut [u32], count: &mut u64);
    /// Changes a struct of the caller's.
    fn widen(&self, span: &mut Span);
    /// Text of the plugin's.
    fn name(&self) -> &str;
    /// A list of the plugin's.
    fn fields(&self) -> &[Field<'_>];
    /// A value of the plugin's.
    fn level(&self) -> &Level;
    /// Borrows from the line.
    fn split<'a>(&'a self, line: &'a str) -> Result<Field<'a>>;
    /// The value of a field, if it is there.
    fn find<'a>(&'a self, fields: &'a [Field<'a>], key: &str) -> ROption<RStr<'a>>;
    /// Owned text.
    fn upper(&self, text: &str) -> String;
    /// Owned text, or the plugin's error.
    fn quote(&self, text: &str) -> Result<String>;
    /// An owned list of values.
    fn spans(&self, text: &str) -> Vec<Span>;
    /// An owned list of what borrows.
    fn words<'a>(&'a self, line: &'a str) -> Vec<RStr<'a>>;
    /// A number, or the plugin's error.
    fn half(&self, number: u64) -> Result<u64>;
    /// Borrowed text, or the plugin's error.
    fn nickname(&self, of: Level) -> Result<&str>;
    /// Panics with this text.
    fn panic(&self, text: &str) -> u64;
}
