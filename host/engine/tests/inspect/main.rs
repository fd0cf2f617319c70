//! Reading plugin files: what is accepted, what is refused and with which
//! words, and that no bytes whatever make the reader panic.

mod accepted;
mod fixture;
mod refused;
mod robust;
