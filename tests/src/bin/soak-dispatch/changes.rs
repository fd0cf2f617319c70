//! Those who change what is called: the swapper and the unloader.

use crate::cast::Cast;
use replug_host::{
    CallError, HostError, Plugin,
    dispatch::{Arm, Share},
};
use replug_tests::{artifacts, dice::Dice, harness::wait_until};
use std::{
    fs,
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

/// One version leaves, in one of the ways that there are.
pub(crate) fn swap(cast: &Cast, dice: &mut Dice) -> Result<(), HostError> {
    match dice.below(6) {
        0..=2 => {
            let next = other(&cast.threads);
            cast.host.activate(cast.threads.name(), Some(next)).wait()?;
        }
        3 | 4 => {
            let next = other(&cast.hostile);
            cast.host.activate(cast.hostile.name(), Some(next)).wait()?;
        }
        _ => {
            let (name, next) = (cast.threads.name(), other(&cast.threads));
            let arm = if dice.below(2) == 0 { Arm::Baseline } else { Arm::Challenger };
            cast.host.pin_callers(name, [("the soak".to_owned(), arm)])?;
            for _ in 0..=dice.below(3) {
                let share = Share::from_basis_points(dice.below(10_001) as u16).expect("at most the whole");
                cast.host.try_version(name, next.clone(), share).wait()?;
                // sleep: both serve for a while.
                thread::sleep(Duration::from_millis(dice.below(8)));
            }
            match dice.below(2) {
                0 => drop(cast.host.promote(name).wait()?),
                _ => drop(cast.host.roll_back(name, None)?),
            }
        }
    }
    cast.leaving.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Of the versions `1.0.0` and `2.0.0` the one that does not serve.
pub(crate) fn other(plugin: &Plugin) -> semver::Version {
    let active = plugin.version().expect("one serves").version.major;
    semver::Version::new(3 - active, 0, 0)
}

/// Ends one plugin by deleting its file, and begins it again.
pub(crate) fn take_out_and_put_back(cast: &Cast, dice: &mut Dice) -> Result<(), CallError> {
    let _out = cast.out.lock().unwrap_or_else(PoisonError::into_inner);
    fs::remove_file(&cast.markdown_file).expect("it is there");
    wait_until("the plugin being out", || cast.markdown.version().is_err());
    cast.leaving.fetch_add(1, Ordering::Relaxed);
    let library = artifacts::plugin(["markdown-v1", "markdown-v2"][dice.below(2) as usize]);
    let beside = cast.markdown_file.with_extension("part");
    fs::copy(library, &beside).expect("copies");
    fs::rename(beside, &cast.markdown_file).expect("renames");
    wait_until("the plugin being back", || cast.markdown.version().is_ok());
    Ok(())
}
