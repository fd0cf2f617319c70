//! A whole embedder: `cargo run -p replug-host --example embed -- PLUGIN_DIR`.

use replug_host::Host;
use std::{error::Error, time::Duration};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "plugins".to_owned());
    let host = Host::builder(directory).start()?;
    let mut events = host.events_since(1);
    events.wait_for(Duration::from_secs(10), |event| event.kind.name() == "published");

    let hello = host.plugin("hello")?;
    println!("{}", hello.call("greet", b"world")?.text()?);

    host.shutdown()?;
    Ok(())
}
