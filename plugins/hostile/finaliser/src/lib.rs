//! A plugin with a finaliser in Rust, as the crate `ctor`, `atexit` and C++
//! statics make them: it runs inside `dlclose`, after the host took the list of
//! what it has to free, and frees and allocates itself.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `fill` | ignored | `filled`: a static owns blocks that the finaliser drops |

use replug_plugin_api::prelude::*;
use std::{
    hint::black_box,
    sync::{Mutex, PoisonError},
};

/// Blocks that the static owns, and blocks that the finaliser allocates.
const BLOCKS: usize = 1_000;

static OWNED: Mutex<Vec<Box<[u8; 40]>>> = Mutex::new(Vec::new());

struct Finaliser;

impl Plugin for Finaliser {
    type Config = ();

    fn prepare((): (), _: &Context) -> Result<Self> {
        Ok(Finaliser)
    }

    fn methods(methods: &mut Methods<Self>) {
        methods.method("fill", "Gives the finaliser something to drop", |_, _| {
            let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
            *owned = (0..BLOCKS).map(|_| Box::new([7; 40])).collect();
            Ok("filled")
        });
    }
}

/// Runs inside `dlclose`.
extern "C" fn finalise() {
    let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fresh: Vec<_> = (0..BLOCKS).map(|_| Box::new([8_u8; 40])).collect();
    fresh.append(&mut owned);
    drop(black_box(fresh));
    // What is kept from here on nobody frees: a few bytes, on purpose.
    owned.push(Box::new([9; 40]));
}

#[used]
// SAFETY: the section holds addresses of functions without arguments, and this
// is one.
#[unsafe(link_section = ".fini_array")]
static FINALISER: extern "C" fn() = finalise;

// A version that stands nowhere else in the file: a test makes two of one.
export!(Finaliser, name = "finaliser", version = "1.70.31");
