//! The layout check of one vtable, and its outcome on one line.

use abi_stable::{
    abi_stability::abi_checking::{
        AbiInstability, AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
    },
    type_layout::{TLFieldOrFunction, TypeLayout},
};

/// Whether code that was built against `fewer` may use a value of `more`.
///
/// The names say the direction: of two minors of an interface the one with
/// fewer fields is what is expected, whichever side it stands on. Globals are
/// fresh each time, because abi_stable's own cache keeps pointers into
/// libraries that will be unmapped.
pub(super) fn check(fewer: &'static TypeLayout, more: &'static TypeLayout) -> Result<(), String> {
    let globals = CheckingGlobals::new();
    check_layout_compatibility_with_globals(fewer, more, &globals).map_err(|errors| one_line(&errors))
}

/// The first difference as `path: expected …, found …`. abi_stable itself would
/// print hundreds of lines.
fn one_line(errors: &AbiInstabilityErrors) -> String {
    let mut differences: Vec<(usize, String)> = errors
        .errors
        .iter()
        .flat_map(|error| {
            let mut path: Vec<String> = error.stack_trace.iter().map(|frame| name(&frame.expected)).collect();
            // A function has the name of its field; the first step is that from
            // the reference to the vtable.
            path.dedup();
            if path.len() > 1 && path[0] == "0" {
                path.remove(0);
            }
            let place = if path.is_empty() { errors.interface.name().to_owned() } else { path.join(".") };
            error
                .errs
                .iter()
                .map(move |difference| (path_depth(&place), format!("{place}: {}", describe(difference))))
        })
        .collect();
    // The deepest one names the field that really changed; those above it only
    // contain it.
    differences.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    let more = differences.len().saturating_sub(1);
    match differences.into_iter().next() {
        Some((_, first)) if more > 0 => format!("{first} (and {more} more differences)"),
        Some((_, first)) => first,
        None => "the layouts differ".to_owned(),
    }
}

fn path_depth(place: &str) -> usize {
    place.matches('.').count()
}

fn name(frame: &TLFieldOrFunction) -> String {
    match frame {
        TLFieldOrFunction::Field(field) => field.name().to_owned(),
        TLFieldOrFunction::Function(function) => function.name.as_str().to_owned(),
    }
}

fn describe(difference: &AbiInstability) -> String {
    use AbiInstability as D;
    match difference {
        D::Name(d) => format!("expected type {}, found {}", d.expected, d.found),
        D::Package(d) => format!("expected package {}, found {}", d.expected, d.found),
        D::PackageVersion(d) => {
            format!("expected package version {}, found {}", d.expected, d.found)
        }
        D::Size(d) => format!("expected {} bytes, found {}", d.expected, d.found),
        D::Alignment(d) => format!("expected alignment {}, found {}", d.expected, d.found),
        D::FieldCountMismatch(d) => format!("expected {} fields, found {}", d.expected, d.found),
        D::MismatchedPrefixSize(d) => {
            format!("expected a prefix of {} fields, found {}", d.expected, d.found)
        }
        D::MismatchedPrimitive(d) => format!("expected {:?}, found {:?}", d.expected, d.found),
        D::UnexpectedField(d) => {
            format!("expected field {}, found {}", field(&d.expected), field(&d.found))
        }
        D::TLDataDiscriminant(d) => format!("expected a {:?}, found a {:?}", d.expected, d.found),
        D::ReprAttr(d) => format!("expected {:?}, found {:?}", d.expected, d.found),
        D::FnQualifierMismatch(d) => format!("expected function {}, found {}", d.expected, d.found),
        other => {
            let text = format!("{other:?}");
            let line: Vec<&str> = text.split_whitespace().take(24).collect();
            line.join(" ")
        }
    }
}

fn field(field: &abi_stable::type_layout::TLField) -> String {
    format!("{}: {}", field.name(), field.full_type())
}
