//! Rows of tables that a plugin converts from one schema to another.

use super::{
    answer::{Answer, AnswerLimits},
    hooks::{Hook, HookError, HookErrorKind},
    loaded::Loaded,
};
use abi_stable::std_types::{RSlice, RStr};
use replug_abi::{Instance, RowIn, Status};

/// A row as a plugin has converted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// In the version's own schema; none when the row had that already.
    pub value: Option<Vec<u8>>,
    /// In the schema that was asked for; none when none was.
    pub image: Option<Vec<u8>>,
}

impl Loaded {
    /// Turns a row of schema `schema` into the version's own, and into
    /// `image_schema` unless that is 0; `None` when the plugin has no such steps.
    ///
    /// # Errors
    /// The hook's; more than `bytes_max` bytes of either are refused.
    ///
    /// # Safety
    /// `instance` came from this library's `prepare` and is not destroyed while
    /// this runs.
    pub(crate) unsafe fn convert_row(
        &self,
        instance: Instance,
        table: &str,
        value: &[u8],
        (schema, image_schema): (u32, u32),
        bytes_max: usize,
    ) -> Result<Option<Converted>, HookError> {
        let Some(converter) = self.handshake.converter else {
            return Ok(None);
        };
        let row = RowIn { value: RSlice::from_slice(value), schema, image_schema };
        let limits = AnswerLimits { body_bytes_max: bytes_max };
        // SAFETY: the caller's promise; row and sink are borrowed for the call.
        let (status, answer) = Answer::collect(limits, |sink| unsafe {
            converter.convert()(instance, RStr::from_str(table), &row, sink)
        });
        if status == Status::NO_STEP {
            return Ok(None);
        }
        if let Some(error) = HookError::from_status(Hook::Convert, limits, status, &answer) {
            return Err(error);
        }
        if (image_schema != 0) != answer.image.is_some() {
            let reason = "the answer has an image where none was asked for, or none where one was".to_owned();
            return Err(HookError { hook: Hook::Convert, kind: HookErrorKind::Lied, reason });
        }
        let value = (!answer.body.is_empty()).then_some(answer.body);
        Ok(Some(Converted { value, image: answer.image }))
    }
}
