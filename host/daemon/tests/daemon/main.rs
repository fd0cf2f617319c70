//! The binary, as an operator uses it: real processes, files and signals.

mod process;
mod http;
mod operating;
mod restoring;
mod sweeping;
mod answering;
mod following;
mod listening;
mod ending;
mod refusing;
mod signing;
mod ageing;
mod trusting;
mod replaying;
mod rehearsing;
mod attending;
mod checking;
