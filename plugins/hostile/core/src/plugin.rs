//! The plugin, generic over the schema of its state: the versions differ in
//! nothing else.

use crate::{Counted, Fault, Hang, Payload, StateFaults, hang};
use replug_plugin_api::{prelude::*, serde_json::json};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    marker::PhantomData,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A plugin that counts, and misbehaves as it is told.
pub struct Hostile<S> {
    config: Config,
    count: AtomicU64,
    schema: PhantomData<fn() -> S>,
}

/// What goes wrong, and where counting begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The only version in which anything goes wrong; every one if left out. A
    /// host configures a plugin and not its versions.
    pub only_version: Option<String>,
    /// What goes wrong in hooks.
    pub faults: HashMap<Hook, Fault>,
    /// What is wrong with the state.
    pub state: StateFaults,
    /// Where counting begins.
    pub count: u64,
    /// Whether `prepare` starts a thread that ends when the host asks it to,
    /// before anything goes wrong in it.
    pub thread: bool,
    /// A file that each hook of each version appends a line to, `1.0.0 Freeze`.
    pub trace: Option<PathBuf>,
    /// Which version this is.
    #[serde(skip)]
    version: String,
}

/// A hook, or the drop of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is called as in the SDK")]
pub enum Hook {
    Prepare,
    Restore,
    Activate,
    SelfTest,
    /// A call that a rehearsal makes.
    Sample,
    Freeze,
    Thaw,
    Export,
    Stop,
    Drop,
}

impl Config {
    /// What of it concerns a version.
    fn of_version(self, version: &str) -> Self {
        let version = version.to_owned();
        match &self.only_version {
            Some(only) if *only != version => {
                Config { count: self.count, trace: self.trace, version, ..Config::default() }
            }
            _ => Config { version, ..self },
        }
    }

    fn happen_in(&self, hook: Hook) -> Result<()> {
        if let Some(path) = &self.trace {
            let mut file = File::options().create(true).append(true).open(path)?;
            writeln!(file, "{} {hook:?}", self.version)?;
        }
        self.faults.get(&hook).map_or(Ok(()), Fault::happen)
    }
}

impl<S: Counted> Plugin for Hostile<S> {
    type Config = Config;

    fn prepare(config: Config, context: &Context) -> Result<Self> {
        let config = config.of_version(context.version());
        if config.thread {
            context.spawn("hostile-task", |stop| while !stop.wait(Duration::from_secs(60)) {})?;
        }
        config.happen_in(Hook::Prepare)?;
        Ok(Hostile { count: AtomicU64::new(config.count), schema: PhantomData, config })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("add", "Adds to the count", |hostile, call| {
                let body = call.text()?.trim();
                let number = if body.is_empty() { 1 } else { body.parse()? };
                let before = hostile.count.fetch_add(number, Ordering::Relaxed);
                Ok(before.wrapping_add(number).to_string())
            })
            .method("count", "Answers the count", |hostile, _| {
                Ok(hostile.count.load(Ordering::Relaxed).to_string())
            })
            .repeatable()
            .method("version", "Names this version", |_, call| {
                let context = call.context();
                Ok(format!("{} {}", context.name(), context.version()))
            })
            .repeatable()
            .method("sampled", "Is called in rehearsals", |hostile, call| {
                hostile.config.happen_in(Hook::Sample)?;
                Ok(call.body().to_vec())
            })
            .sample("text")
            .sample([0, 159])
            .method("fault", "Does what the body says", |_, call| {
                call.json::<Fault>()?.happen()?;
                Ok("survived")
            })
            .method("panic", "Panics with a text", |_, _| Fault::Panic(Payload::Text).happen())
            .method("slow", "Waits on the caller's thread", |_, call| {
                let hang = match call.body() {
                    [] => Hang::default(),
                    _ => call.json()?,
                };
                hang.wait();
                Ok("waited")
            })
            .method("recurse", "Calls itself without end", |_, call| {
                let context = call.context();
                let (itself, through) = (context.name(), call.text()?);
                if through.is_empty() {
                    return context.call(itself, "recurse", b"");
                }
                let next = json!({ "plugin": itself, "method": "recurse", "body": through });
                context.call(through, "nested", next.to_string().as_bytes())
            })
            .method("descend", "Calls itself so many times, then adds one", |hostile, call| {
                let (context, left) = (call.context(), call.text()?.trim().parse::<u64>()?);
                let Some(below) = left.checked_sub(1) else {
                    let before = hostile.count.fetch_add(1, Ordering::Relaxed);
                    return Ok(Reply::from(before.wrapping_add(1).to_string()));
                };
                let (itself, below) = (context.name(), below.to_string());
                if left % 2 == 0 {
                    return context.call(itself, "descend", below.as_bytes());
                }
                // Every other time by the way of another plugin.
                let next = json!({ "plugin": itself, "method": "descend", "body": below });
                context.call("threads", "nested", next.to_string().as_bytes())
            })
            .method("release", "Ends all that hangs", |_, _| {
                hang::release();
                Ok("released")
            });
    }

    fn activate(&self) -> Result<()> {
        self.config.happen_in(Hook::Activate)
    }

    fn self_test(&self) -> Result<()> {
        self.config.happen_in(Hook::SelfTest)
    }

    fn freeze(&self) -> Result<()> {
        self.config.happen_in(Hook::Freeze)
    }

    fn thaw(&self) -> Result<()> {
        self.config.happen_in(Hook::Thaw)
    }

    fn stop(&self) -> Result<()> {
        self.config.happen_in(Hook::Stop)
    }
}

impl<S: Counted> Snapshot for Hostile<S> {
    type State = S;

    fn export(&self) -> Result<S> {
        self.config.happen_in(Hook::Export)?;
        let count = self.count.load(Ordering::Relaxed);
        Ok(S::pack(count, &self.config.state))
    }

    fn restore(&mut self, state: S) -> Result<()> {
        self.config.happen_in(Hook::Restore)?;
        self.count = AtomicU64::new(state.count());
        Ok(())
    }
}

impl<S> Drop for Hostile<S> {
    fn drop(&mut self) {
        // There is nobody to tell about an error.
        let _ = self.config.happen_in(Hook::Drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replug_plugin_api::serde_json;

    #[test]
    fn the_documented_configuration_is_one() {
        let json = r#"{
            "only_version": "2.0.0",
            "faults": { "activate": { "panic": "text" }, "stop": { "hang": { "ms": 500 } } },
            "state": { "up": { "fail": "no way up" } },
            "count": 7
        }"#;
        let config: Config = serde_json::from_str(json).expect("valid");
        assert_eq!(config.faults[&Hook::Activate], Fault::Panic(Payload::Text));
        assert!(config.happen_in(Hook::Freeze).is_ok());
        let other = config.of_version("1.0.0");
        assert!(other.happen_in(Hook::Activate).is_ok());
        assert_eq!(other.count, 7);
        assert!(serde_json::from_str::<Config>(r#"{"count": "seven"}"#).is_err());
    }
}
