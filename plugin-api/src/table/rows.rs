//! What a row becomes when its schema is not the one that is wanted.
//!
//! The author's steps run here, on bytes that the caller owns; nothing here
//! reads or writes a table.

use crate::{
    Error, Result,
    state::{self, State, StateError},
};
use abi_stable::std_types::RSlice;
use replug_abi::RowWrite;
use std::borrow::Cow;

/// What older versions read in the place of a value.
pub(super) enum Image<'b> {
    /// None is needed.
    NotNeeded,
    /// One is needed, and there is no step down to it.
    NoWayBack,
    Is {
        schema: u32,
        bytes: Cow<'b, [u8]>,
    },
}

/// A value in the version's own schema, and its image.
pub(super) struct Row<'b> {
    pub(super) value: Cow<'b, [u8]>,
    pub(super) image: Image<'b>,
}

impl Row<'_> {
    /// The same, to be written over the row of this revision.
    pub(super) fn write(&self, expected: u64) -> RowWrite<'_> {
        let (image, image_schema) = match &self.image {
            Image::NotNeeded => (&[][..], RowWrite::NO_IMAGE),
            Image::NoWayBack => (&[][..], RowWrite::NO_WAY_BACK),
            Image::Is { schema, bytes } => (&bytes[..], *schema),
        };
        RowWrite {
            value: RSlice::from_slice(&self.value),
            image: RSlice::from_slice(image),
            image_schema,
            expected,
        }
    }
}

/// The image of a value of the version's own schema.
#[inline]
pub(super) fn image<V: State>(value: &[u8], image_schema: u32) -> Result<Image<'_>, StateError> {
    if image_schema == RowWrite::NO_IMAGE {
        return Ok(Image::NotNeeded);
    }
    down_to::<V>(V::VERSION, value, image_schema)
}

/// A row of schema `schema` in the version's own, and the image that it needs.
#[cold]
pub(super) fn upgrade<V: State>(schema: u32, bytes: &[u8], image_schema: u32) -> Result<Row<'_>, StateError> {
    if image_schema == RowWrite::NO_IMAGE {
        let value = state::migrate::<V>(schema, V::VERSION, bytes)?;
        return Ok(Row { value, image: Image::NotNeeded });
    }
    if (schema..=V::VERSION).contains(&image_schema)
        && let Some(passed) = reached(state::migrate::<V>(schema, image_schema, bytes))?
    {
        // Older versions read what this one came through, not what it would
        // make of its own on the way back.
        let value = state::migrate::<V>(image_schema, V::VERSION, &passed)?.into_owned().into();
        return Ok(Row { value, image: Image::Is { schema: image_schema, bytes: passed } });
    }
    let value = state::migrate::<V>(schema, V::VERSION, bytes)?;
    Ok(Row { value, image: down_to::<V>(schema, bytes, image_schema)? })
}

fn down_to<V: State>(from: u32, bytes: &[u8], image_schema: u32) -> Result<Image<'_>, StateError> {
    Ok(match reached(state::migrate::<V>(from, image_schema, bytes))? {
        Some(bytes) => Image::Is { schema: image_schema, bytes },
        None => Image::NoWayBack,
    })
}

/// Nothing where a step is not declared, which is no failure of one.
fn reached(migrated: Result<Cow<'_, [u8]>, StateError>) -> Result<Option<Cow<'_, [u8]>>, StateError> {
    match migrated {
        Err(StateError::NoStep { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// The value that a row's bytes hold.
#[inline]
pub(super) fn value<V: State>(schema: u32, bytes: &[u8]) -> Result<V, StateError> {
    if schema == V::VERSION {
        return state::decode(bytes);
    }
    state::decode(&state::migrate::<V>(schema, V::VERSION, bytes)?)
}

/// What the host's sweep asks for: the value unless it is in the version's own
/// schema already, and the image if one is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Converted {
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) image: Option<Vec<u8>>,
}

/// Turns a row's bytes, of a schema, into those wanted, with an image of
/// another; none if that cannot be reached.
pub(crate) type Convert = fn(&[u8], u32, u32) -> Result<Option<Converted>>;

pub(super) fn convert<V: State>(bytes: &[u8], schema: u32, image_schema: u32) -> Result<Option<Converted>> {
    let row = match upgrade::<V>(schema, bytes, image_schema) {
        Err(StateError::NoStep { .. }) => return Ok(None),
        row => row.map_err(|error| Error::new(code(&error), error.report()))?,
    };
    let value = (schema != V::VERSION).then(|| row.value.into_owned());
    Ok(match row.image {
        Image::NotNeeded => Some(Converted { value, image: None }),
        Image::NoWayBack => None,
        Image::Is { bytes, .. } => Some(Converted { value, image: Some(bytes.into_owned()) }),
    })
}

/// The code of an error with a row: bytes that are none are the table's fault,
/// everything else the author's.
pub(super) fn code(error: &StateError) -> &'static str {
    match error {
        StateError::Decode { .. } => "table.corrupt",
        StateError::Step { source, .. } => code(source),
        _ => "state.bad",
    }
}
