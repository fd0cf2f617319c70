//! Those who write: each says what it is about to do, does it, and says that it
//! was acknowledged.

use crate::{
    names,
    victim::{Found, Victim},
    words::{Deed, Word},
};
use replug_host::CallError;
use replug_tests::dice::Dice;
use serde_json::json;
use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

pub(crate) struct Writers {
    pub(crate) victim: Arc<Victim>,
    pub(crate) seed: u64,
    pub(crate) found: Found,
}

impl Writers {
    /// They go on until a call is refused, which nothing but the end of the host
    /// may do.
    pub(crate) fn start(self) -> Vec<JoinHandle<()>> {
        let Writers { victim, seed, found } = self;
        let writer = |number: usize| {
            let there = |of: u64| found.there.contains(&names::own(number, of));
            let is_stray = |of: &u64| found.strays.contains(&names::own(number, *of));
            let writer = Writer {
                victim: Arc::clone(&victim),
                number,
                dice: Dice::new(number as u64 + 1, seed),
                there: (0..names::OWN).map(there).collect(),
                strays: (0..names::OWN).filter(is_stray).collect(),
            };
            thread::spawn(move || writer.work())
        };
        (0..names::WRITERS).map(writer).collect()
    }
}

struct Writer {
    victim: Arc<Victim>,
    number: usize,
    dice: Dice,
    /// Which of its sessions are there.
    there: Vec<bool>,
    /// Which of them only one of the tables knows.
    strays: Vec<u64>,
}

impl Writer {
    fn work(mut self) {
        if let Err(error) = self.write() {
            self.victim.failed("a call", error);
        }
    }

    fn write(&mut self) -> Result<(), CallError> {
        for own in std::mem::take(&mut self.strays) {
            self.mend(own)?;
        }
        loop {
            if self.dice.below(4) == 0 {
                // sleep: changes need the processor, too.
                thread::sleep(Duration::from_micros(self.dice.below(600)));
            }
            match self.dice.below(8) {
                0 | 1 => {
                    let token = names::filled(self.dice.below(names::HOT));
                    self.act(Deed::Touch, &token)?;
                }
                2 | 3 => {
                    let token = names::filled(self.dice.below(names::FILLED));
                    self.act(Deed::Touch, &token)?;
                }
                turn => {
                    let own = self.dice.below(names::OWN);
                    let deed = match (self.there[own as usize], turn) {
                        (false, _) => Deed::Open,
                        (true, 4) => Deed::Close,
                        (true, _) => Deed::Touch,
                    };
                    self.act_on_own(deed, own)?;
                }
            }
        }
    }

    /// Makes the tables agree on a session that was being opened or closed at the
    /// last kill.
    fn mend(&mut self, own: u64) -> Result<(), CallError> {
        if !self.there[own as usize] {
            self.act_on_own(Deed::Open, own)?;
        }
        self.act_on_own(Deed::Close, own)
    }

    fn act_on_own(&mut self, deed: Deed, own: u64) -> Result<(), CallError> {
        self.act(deed, &names::own(self.number, own))?;
        self.there[own as usize] = deed != Deed::Close;
        Ok(())
    }

    fn act(&self, deed: Deed, token: &str) -> Result<(), CallError> {
        let writer = self.number;
        Word::Begin { writer, deed, token: token.to_owned() }.say();
        match deed {
            Deed::Open => {
                let open = json!({"token": token, "user": names::user_of(token)});
                self.victim.call("open", &open.to_string())?;
            }
            Deed::Touch => drop(self.victim.call("touch", token)?),
            Deed::Close => {
                let was_there = self.victim.call("close", token)?;
                if was_there != "true" {
                    self.victim.failed("a close", format_args!("{token} was gone"));
                }
            }
        }
        Word::Done { writer }.say();
        Ok(())
    }
}
