//! tmp
use replug_host::{Host, event::Next};
use std::time::Duration;
fn main() {
    let host = Host::builder(std::env::args().nth(1).unwrap()).start().unwrap();
    let mut events = host.events_since(1);
    while let Next::Event(e) = events.next_within(Duration::from_millis(1500)) {
        println!("{}", serde_json::to_string(&*e).unwrap());
    }
    if let Some(p) = host.find("hello") {
        println!("{:?}", p.call("greet", b"x"));
        println!("{:?}", p.methods());
    }
    println!("{}", serde_json::to_string_pretty(&host.status()).unwrap());
    host.shutdown().unwrap();
    while let Next::Event(e) = events.next_within(Duration::from_millis(500)) {
        println!("{}", serde_json::to_string(&*e).unwrap());
    }
}
