//! A rayon pool of the plugin's own: built when the instance is activated,
//! dropped when it stops. Never the global pool, whose threads end with the
//! process.

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use replug_plugin_api::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// The pool, between activation and stop.
#[derive(Default)]
pub struct Pool {
    pool: Mutex<Option<Arc<ThreadPool>>>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system cannot start them.
    pub fn start(&self, threads: usize) -> Result<()> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("threads-pool-{number}"))
            .build()?;
        self.set(Some(Arc::new(pool)));
        Ok(())
    }

    /// Tells the threads to end. They do so soon after, by themselves.
    pub fn stop(&self) {
        self.set(None);
    }

    /// The sum of the squares of all numbers up to `n`, in parallel.
    ///
    /// # Errors
    /// `pool.stopped` outside of activation and stop.
    pub fn sum_of_squares(&self, n: u32) -> Result<u128> {
        let pool = self.get().clone();
        let pool = pool.ok_or_else(|| Error::new("pool.stopped", "the pool does not run"))?;
        Ok(pool
            .install(|| (0..=u64::from(n)).into_par_iter().map(|number| u128::from(number * number)).sum()))
    }

    fn set(&self, pool: Option<Arc<ThreadPool>>) {
        let old = std::mem::replace(&mut *self.get(), pool);
        drop(old);
    }

    fn get(&self) -> std::sync::MutexGuard<'_, Option<Arc<ThreadPool>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_works_between_start_and_stop() {
        let pool = Pool::default();
        assert!(pool.sum_of_squares(3).is_err());
        pool.start(2).expect("start");
        assert_eq!(pool.sum_of_squares(3).expect("runs"), 14);
        assert_eq!(pool.sum_of_squares(100_000).expect("runs"), 333_338_333_350_000);
        pool.stop();
        assert!(pool.sum_of_squares(3).is_err());
    }
}
