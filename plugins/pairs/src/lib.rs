//! The interface `pairs.store` as it was in each of its versions, and one that
//! has every way in which arguments and results cross.
//!
//! In a project each version is a state of one crate in its history. Here they
//! stand side by side in one package, because a host compares the names of
//! package, types and fields, and not those of modules: to it the plugins of
//! the folder `examples` were built on different days.
//!
//! Nothing here is executed by itself: the plugins implement it, the tests call
//! it.

#![deny(unsafe_code)]

pub mod every;

/// Version 1.0: what was there first.
pub mod v1_0 {
    use replug_plugin_api::interface::interface;

    /// Numbers by place.
    #[interface(id = "pairs.store", version = "1.0.0")]
    pub trait Store {
        /// The number at `place`.
        fn get(&self, place: u32) -> u64;
    }
}

/// Version 1.1: one method more.
pub mod v1_1 {
    use replug_plugin_api::interface::interface;

    /// Numbers by place.
    #[interface(id = "pairs.store", version = "1.1.0")]
    pub trait Store {
        /// The number at `place`.
        fn get(&self, place: u32) -> u64;
        /// How many numbers there are.
        #[since = "1.1"]
        fn count(&self) -> u64;
    }
}

/// Version 1.2: another method, and another name for an argument.
pub mod v1_2 {
    use replug_plugin_api::interface::interface;

    /// Numbers by place.
    #[interface(id = "pairs.store", version = "1.2.0")]
    pub trait Store {
        /// The number at `index`.
        fn get(&self, index: u32) -> u64;
        /// How many numbers there are.
        #[since = "1.1"]
        fn count(&self) -> u64;
        /// What the store is called.
        #[since = "1.2"]
        fn name(&self) -> &str;
    }
}

/// Version 1.3: later than any host of the tests knows.
pub mod v1_3 {
    use replug_plugin_api::interface::interface;

    /// Numbers by place.
    #[interface(id = "pairs.store", version = "1.3.0")]
    pub trait Store {
        /// The number at `index`.
        fn get(&self, index: u32) -> u64;
        /// How many numbers there are.
        #[since = "1.1"]
        fn count(&self) -> u64;
        /// What the store is called.
        #[since = "1.2"]
        fn name(&self) -> &str;
        /// The sum of all numbers.
        #[since = "1.3"]
        fn sum(&self) -> u64;
    }
}

/// Version 2.0: places are names.
pub mod v2_0 {
    use replug_plugin_api::interface::interface;

    /// Numbers by name.
    #[interface(id = "pairs.store", version = "2.0.0")]
    pub trait Store {
        /// The number of this name.
        fn get(&self, name: &str) -> u64;
    }
}

/// A mistake: version 1.1 again, with a wider argument.
pub mod changed {
    use replug_plugin_api::interface::interface;

    /// Numbers by place.
    #[interface(id = "pairs.store", version = "1.1.0")]
    pub trait Store {
        /// The number at `place`.
        fn get(&self, place: u64) -> u64;
        /// How many numbers there are.
        #[since = "1.1"]
        fn count(&self) -> u64;
    }
}

/// What a result may borrow from, before it was changed.
pub mod words {
    use replug_plugin_api::interface::interface;

    /// Words of a line.
    #[interface(id = "pairs.words", version = "1.0.0")]
    pub trait Words {
        /// What the plugin has to say of it.
        fn first(&self, line: &str) -> &str;
    }
}

/// The same trait, but for what a result may borrow from.
pub mod words_lent {
    use replug_plugin_api::interface::interface;

    /// Words of a line.
    #[interface(id = "pairs.words", version = "1.0.0")]
    pub trait Words {
        /// The first of them.
        fn first<'a>(&'a self, line: &'a str) -> &'a str;
    }
}

/// A mistake: version 1.2 again, without one of its later methods.
pub mod without_name {
    use replug_plugin_api::interface::interface;

    /// Numbers by place.
    #[interface(id = "pairs.store", version = "1.2.0")]
    pub trait Store {
        /// The number at `index`.
        fn get(&self, index: u32) -> u64;
        /// How many numbers there are.
        #[since = "1.1"]
        fn count(&self) -> u64;
    }
}

/// What is told of a line, before it was changed.
pub mod report {
    use abi_stable::StableAbi;
    use replug_plugin_api::interface::{Portable, interface};

    /// How loud a line is.
    #[repr(u8)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
    pub enum Volume {
        /// Not loud.
        Low,
        /// Loud.
        High,
    }

    /// Lengths.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
    pub struct Size {
        /// In bytes.
        pub bytes: u32,
    }

    /// Tells of lines.
    #[interface(id = "pairs.report", version = "1.0.0")]
    pub trait Report {
        /// How long the line is.
        fn size(&self, line: &str) -> Size;
        /// How loud it is.
        fn volume(&self, line: &str) -> Volume;
        /// How many words it has.
        fn words(&self, line: &str) -> u64;
        /// How many characters.
        fn letters(&self, line: &str) -> u64;
    }
}

/// A mistake: two methods exchanged, which have the same types.
pub mod report_exchanged {
    pub use crate::report::{Size, Volume};
    use replug_plugin_api::interface::interface;

    /// Tells of lines.
    #[interface(id = "pairs.report", version = "1.0.0")]
    pub trait Report {
        /// How long the line is.
        fn size(&self, line: &str) -> Size;
        /// How loud it is.
        fn volume(&self, line: &str) -> Volume;
        /// How many characters it has.
        fn letters(&self, line: &str) -> u64;
        /// How many words.
        fn words(&self, line: &str) -> u64;
    }
}

/// A mistake: an enum with one variant more.
pub mod report_louder {
    pub use crate::report::Size;
    use abi_stable::StableAbi;
    use replug_plugin_api::interface::{Portable, interface};

    /// How loud a line is.
    #[repr(u8)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
    pub enum Volume {
        /// Not loud.
        Low,
        /// Loud.
        High,
        /// Louder.
        Highest,
    }

    /// Tells of lines.
    #[interface(id = "pairs.report", version = "1.0.0")]
    pub trait Report {
        /// How long the line is.
        fn size(&self, line: &str) -> Size;
        /// How loud it is.
        fn volume(&self, line: &str) -> Volume;
        /// How many words it has.
        fn words(&self, line: &str) -> u64;
        /// How many characters.
        fn letters(&self, line: &str) -> u64;
    }
}

/// A mistake: a type by another name.
pub mod report_renamed {
    pub use crate::report::Volume;
    use abi_stable::StableAbi;
    use replug_plugin_api::interface::{Portable, interface};

    /// Lengths.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq, Eq, StableAbi, Portable)]
    pub struct Length {
        /// In bytes.
        pub bytes: u32,
    }

    /// Tells of lines.
    #[interface(id = "pairs.report", version = "1.0.0")]
    pub trait Report {
        /// How long the line is.
        fn size(&self, line: &str) -> Length;
        /// How loud it is.
        fn volume(&self, line: &str) -> Volume;
        /// How many words it has.
        fn words(&self, line: &str) -> u64;
        /// How many characters.
        fn letters(&self, line: &str) -> u64;
    }
}
