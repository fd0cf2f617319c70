//! `replug.rows`: rows that nobody touches, converted for the host's sweep.

use super::{answer, fence::fence, instance::Cell};
use crate::{Error, Plugin};
use abi_stable::{prefix_type::WithMetadata, std_types::RStr};
use replug_abi::{Instance, Part, RowIn, RowsVtable, RowsVtableRef, Sink, Status};
use std::marker::PhantomData;

/// The rows vtable of a plugin type.
pub struct RowsTable<P>(PhantomData<P>);

impl<P: Plugin> RowsTable<P> {
    const VALUE: WithMetadata<RowsVtable> = WithMetadata::new(RowsVtable { convert: convert::<P> });
    const STATIC: &'static WithMetadata<RowsVtable> = &Self::VALUE;

    /// The vtable, to be put into the root module.
    pub const VTABLE: RowsVtableRef = RowsVtableRef(Self::STATIC.static_as_prefix());
}

/// SAFETY: `instance` is a live instance of `P`.
unsafe extern "C" fn convert<P: Plugin>(
    instance: Instance,
    table: RStr<'_>,
    row: &RowIn<'_>,
    sink: &Sink,
) -> Status {
    fence(sink, || {
        // SAFETY: the host converts with instances that `prepare` made and that
        // `destroy` has not ended.
        let cell = unsafe { Cell::<P>::borrow(&instance) };
        let Some(convert) = cell.context.shared.tables.converter(table.as_str()) else {
            let message = format!("the plugin did not open table {:?}", table.as_str());
            return answer::write_error(&Error::new("table.not_open", message), sink);
        };
        match convert(row.value.as_slice(), row.schema, row.image_schema) {
            Ok(Some(converted)) => {
                let parts = [(Part::BODY, &converted.value), (Part::IMAGE, &converted.image)];
                for (part, bytes) in parts {
                    if let Some(bytes) = bytes {
                        let status = sink.write(part, bytes);
                        if !status.is_ok() {
                            return status;
                        }
                    }
                }
                Status::OK
            }
            Ok(None) => Status::NO_STEP,
            Err(error) => {
                let message = format!("table {:?}: {}", table.as_str(), error.message());
                answer::write_error(&Error::new(error.code().to_owned(), message), sink)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Context, Methods, Result,
        glue::answer::Answer,
        state::{self, Link, OneWay, State, StateError, Step},
        testing,
    };
    use abi_stable::std_types::RSlice;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct V1 {
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct V2 {
        label: String,
    }

    #[derive(Serialize, Deserialize)]
    struct V3 {
        label: String,
    }

    impl State for V1 {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<Link> = None;
    }

    impl State for V2 {
        const VERSION: u32 = 2;
        const PREVIOUS: Option<Link> = Some(Link::hook::<V2, V1>());
    }

    impl State for V3 {
        const VERSION: u32 = 3;
        const PREVIOUS: Option<Link> = Some(Link::one_way::<V3, V2>());
    }

    impl Step<V1> for V2 {
        fn up(old: V1) -> Result<Self, StateError> {
            match old.name.as_str() {
                "panic" => panic!("the hook's own"),
                _ => Ok(V2 { label: old.name }),
            }
        }
        fn down(self) -> Result<V1, StateError> {
            Ok(V1 { name: self.label })
        }
    }

    impl OneWay<V2> for V3 {
        fn up(old: V2) -> Result<Self, StateError> {
            Ok(V3 { label: old.label })
        }
    }

    struct Labels;

    impl Plugin for Labels {
        type Config = ();
        fn prepare((): (), context: &Context) -> Result<Self> {
            context.table::<u64, V2>("labels")?;
            context.table::<u64, V3>("one-way")?;
            Ok(Labels)
        }
    }

    /// What the host gets: the status, the value, and the image or the error.
    fn asked(table: &str, value: &[u8], schema: u32, image_schema: u32) -> (Status, Vec<u8>, String) {
        let context = testing::context();
        let plugin = Labels::prepare((), &context).expect("is built");
        let instance = Cell { plugin, methods: Methods::of_plugin(), context }.into_instance();
        let row = RowIn { value: RSlice::from_slice(value), schema, image_schema };
        let (status, answer) = Answer::collect(|sink| {
            // SAFETY: the instance was made above.
            unsafe { RowsTable::<Labels>::VTABLE.convert()(instance, RStr::from_str(table), &row, sink) }
        });
        // SAFETY: nothing uses the instance after this.
        drop(unsafe { Cell::<Labels>::from_instance(instance) });
        let error = answer.into_result(status, table);
        match error {
            Ok(body) => (status, body.into_body(), String::new()),
            Err(error) => (status, Vec::new(), error.to_string()),
        }
    }

    #[test]
    fn a_row_is_brought_up_and_down() {
        let v1 = state::encode(&V1 { name: "a".into() }).expect("has bytes");
        let (status, value, _) = asked("labels", &v1, 1, 0);
        assert_eq!(status, Status::OK);
        assert_eq!(state::decode::<V2>(&value).expect("a V2"), V2 { label: "a".into() });
        // In its own schema already: only the image is made.
        let (status, none, _) = asked("labels", &value, 2, 1);
        assert_eq!((status, none), (Status::OK, Vec::new()));
    }

    #[test]
    fn what_cannot_be_reached_is_no_step() {
        let v3 = state::encode(&V3 { label: "a".into() }).expect("has bytes");
        assert_eq!(asked("one-way", &v3, 3, 2).0, Status::NO_STEP);
        assert_eq!(asked("one-way", &v3, 3, 0).0, Status::OK);
    }

    #[test]
    fn what_cannot_be_converted_is_an_error_and_a_panic_stays_inside() {
        let (status, _, error) = asked("labels", b"\xff", 1, 0);
        assert_eq!(status, Status::ERROR);
        assert!(error.starts_with("table.corrupt: table \"labels\":"), "{error}");
        let (status, _, error) = asked("others", b"", 1, 0);
        assert_eq!(status, Status::ERROR);
        assert!(error.starts_with("table.not_open"), "{error}");
        let v1 = state::encode(&V1 { name: "panic".into() }).expect("has bytes");
        let (status, _, error) = asked("labels", &v1, 1, 0);
        assert_eq!((status, error.as_str()), (Status::PANIC, "panic: the hook's own"));
    }
}
