//! A version is in use by the thread that entered it.

use pairs::every::Every;
use replug_host::Typed;

fn share(every: &Typed<dyn Every>) {
    let _ = every.call(|every| {
        std::thread::scope(|scope| {
            scope.spawn(|| every.touch().is_ok());
        });
        Ok(())
    });
}

fn main() {}
