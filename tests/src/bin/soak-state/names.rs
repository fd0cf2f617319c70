//! Which sessions there can be, and whose they are: known to both processes, so
//! that a row which should not be there is missed by neither.

/// Sessions that are there from the beginning, and are never closed.
pub(crate) const FILLED: u64 = 3_000;
/// Of these, the ones that all writers touch all the time.
pub(crate) const HOT: u64 = 8;
/// Writers of a host.
pub(crate) const WRITERS: usize = 3;
/// Sessions that each writer opens and closes, and nobody else.
pub(crate) const OWN: u64 = 48;
/// Users whom the sessions of all writers belong to.
const USERS: u64 = 8;

/// A session that is there from the beginning.
pub(crate) fn filled(number: u64) -> String {
    format!("t{number}")
}

/// A session of one writer.
pub(crate) fn own(writer: usize, number: u64) -> String {
    format!("w{writer}-{number}")
}

/// All sessions that there can be.
pub(crate) fn tokens() -> impl Iterator<Item = String> {
    (0..FILLED)
        .map(filled)
        .chain((0..WRITERS).flat_map(|writer| (0..OWN).map(move |number| own(writer, number))))
}

/// All users.
pub(crate) fn users() -> impl Iterator<Item = String> {
    (0..FILLED.div_ceil(4)).map(|user| format!("u{user}")).chain((0..USERS).map(|user| format!("s{user}")))
}

/// Whose a session is.
pub(crate) fn user_of(token: &str) -> String {
    let number = |digits: &str| digits.parse::<u64>().expect("a session is named by its number");
    match token.split_once('-') {
        Some((_, digits)) => format!("s{}", number(digits) % USERS),
        // As the plugin's `fill` names them.
        None => format!("u{}", number(&token[1..]) / 4),
    }
}
