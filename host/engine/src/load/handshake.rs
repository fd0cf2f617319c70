//! Finding out what a library offers, and checking every layout before the
//! first function is called.

use super::{layout, library::Library};
use crate::{
    artifact::inspect::{Manifest, host_interface},
    failure::{Code, Failure},
};
use abi_stable::{StableAbi, library::AbiHeaderRef, sabi_types::RRef, type_layout::TypeLayout};
use replug_abi::{
    HostVtableRef, InstanceVtableRef, Interface, InterfaceVersion, LedgerHost, LedgerVtableRef, ROOT_SYMBOL,
    Requirement, RootRef, ServiceVtableRef, Status, interface,
};
use std::ffi::c_void;

/// An interface of a plugin. The vtable's layout is checked when somebody asks
/// for the interface by type.
///
/// It borrows from the plugin: what it names is unmapped with it, so that it
/// cannot leave the closure in which the plugin was entered.
///
/// ```
/// # use replug_host::Plugin;
/// fn offers(plugin: &Plugin, id: &str) -> bool {
///     plugin
///         .enter(|entered| entered.payload().loaded().interfaces().any(|row| row.id() == id))
///         .unwrap_or(false)
/// }
/// ```
///
/// ```compile_fail
/// # use replug_host::Plugin;
/// fn keep(plugin: &Plugin) {
///     let row = plugin.enter(|entered| entered.payload().loaded().interfaces().next());
/// }
/// ```
#[derive(Clone, Copy)]
pub struct InterfaceRow<'a> {
    row: &'a Interface,
}

impl<'a> InterfaceRow<'a> {
    /// The interface's id.
    pub fn id(&self) -> &'a str {
        self.row.id()
    }

    /// The version that the plugin was built against.
    pub fn version(&self) -> InterfaceVersion {
        self.row.version()
    }

    /// The vtable as type `T`, which must be the prefix reference of this
    /// interface.
    ///
    /// # Errors
    /// When the major version or the layout differs, on one line.
    pub fn vtable<T>(&self, wanted: InterfaceVersion) -> Result<*const c_void, HandshakeError>
    where
        T: StableAbi,
    {
        self.vtable_of(wanted, T::LAYOUT)
    }

    /// [`vtable`](Self::vtable) for a type of which only the layout is known.
    pub(super) fn vtable_of(
        &self,
        wanted: InterfaceVersion,
        known: &'static TypeLayout,
    ) -> Result<*const c_void, HandshakeError> {
        let found = self.version();
        if found.major != wanted.major {
            return Err(HandshakeError::Major { id: self.id().to_owned(), expected: wanted, found });
        }
        // Of two minors the older has fewer functions, and is what is expected.
        let (fewer, more) =
            if found.minor < wanted.minor { (self.row.layout(), known) } else { (known, self.row.layout()) };
        layout::check(fewer, more)
            .map_err(|difference| HandshakeError::Layout { what: self.id().to_owned(), difference })?;
        Ok(self.row.vtable())
    }
}

/// What a library says about itself, checked.
pub(super) struct Handshake {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) service: ServiceVtableRef,
    pub(super) instance: InstanceVtableRef,
    pub(super) ledger: LedgerVtableRef,
    rows: Vec<Interface>,
}

impl Handshake {
    /// The interfaces on offer.
    pub(super) fn interfaces(&self) -> impl ExactSizeIterator<Item = InterfaceRow<'_>> {
        self.rows.iter().map(|row| InterfaceRow { row })
    }

    /// Hands the host's part of the ledger over: the first call of the plugin.
    ///
    /// # Safety
    /// `host` and what it points to stay until the library is unmapped.
    pub(super) unsafe fn install(&self, host: &LedgerHost) -> Result<(), HandshakeError> {
        // SAFETY: the caller's promise.
        match unsafe { self.ledger.install()(host) } {
            Status::OK => Ok(()),
            status => Err(HandshakeError::Ledger { status }),
        }
    }

    /// What the code says about itself otherwise than the note; both as texts.
    pub(super) fn contradiction(&self, manifest: &Manifest) -> Option<(String, String)> {
        let noted = format!("{}@{}", manifest.name, manifest.version);
        let found = format!("{}@{}", self.name, self.version);
        if noted != found {
            return Some((noted, found));
        }
        let noted: Vec<_> =
            manifest.interfaces.iter().map(|noted| format!("{} {}", noted.id, noted.version)).collect();
        let found: Vec<_> =
            self.interfaces().map(|found| format!("{} {}", found.id(), found.version())).collect();
        (noted != found).then(|| {
            (format!("that it offers {}", noted.join(", ")), format!("that it offers {}", found.join(", ")))
        })
    }
}

/// Looks the root module up and checks all that the engine will use.
pub(super) fn shake(library: &Library) -> Result<Handshake, HandshakeError> {
    let root = root_module(library)?;
    let rows: Vec<Interface> = root.provides().iter().copied().collect();
    check_rows(&rows)?;
    for requirement in root.requires() {
        check_requirement(requirement)?;
    }
    let service = required::<ServiceVtableRef>(&rows, interface::SERVICE, interface::SERVICE_VERSION)?;
    let instance = required::<InstanceVtableRef>(&rows, interface::INSTANCE, interface::INSTANCE_VERSION)?;
    let ledger = required::<LedgerVtableRef>(&rows, interface::LEDGER, interface::LEDGER_VERSION)?;
    // SAFETY: each pointer came with a layout that was just checked against
    // the type that it becomes; both are a pointer to a prefix with metadata.
    let (service, instance, ledger) = unsafe {
        (
            std::mem::transmute::<*const c_void, ServiceVtableRef>(service),
            std::mem::transmute::<*const c_void, InstanceVtableRef>(instance),
            std::mem::transmute::<*const c_void, LedgerVtableRef>(ledger),
        )
    };
    Ok(Handshake {
        name: root.name().as_str().to_owned(),
        version: root.version().as_str().to_owned(),
        service,
        instance,
        ledger,
        rows,
    })
}

fn root_module(library: &Library) -> Result<RootRef, HandshakeError> {
    let header = library.symbol(ROOT_SYMBOL).ok_or(HandshakeError::NoRoot)?;
    // SAFETY: the symbol's name says that an `AbiHeader` stands there; its
    // first bytes are compared before anything behind them is believed. The
    // reference is not used beyond this function.
    let header = unsafe {
        std::mem::transmute::<RRef<'static, ()>, AbiHeaderRef>(RRef::from_raw(header.cast::<()>()))
    };
    let header = header.upgrade().map_err(|error| HandshakeError::Header(one_line(&error.to_string())))?;
    let found =
        header.layout().ok_or_else(|| HandshakeError::Header("the plugin left its layout out".to_owned()))?;
    layout::check(<RootRef as StableAbi>::LAYOUT, found)
        .map_err(|difference| HandshakeError::Layout { what: "the root module".to_owned(), difference })?;
    // SAFETY: the layout was checked in the line above.
    unsafe { header.init_root_module_with_unchecked_layout::<RootRef>() }
        .map_err(|error| HandshakeError::Header(one_line(&error.to_string())))
}

/// Of two rows of one interface nobody could say which is meant.
fn check_rows(rows: &[Interface]) -> Result<(), HandshakeError> {
    for (at, second) in rows.iter().enumerate() {
        let is_same =
            |first: &&Interface| first.id() == second.id() && first.version().major == second.version().major;
        if let Some(first) = rows[..at].iter().find(is_same) {
            let (id, first, second) = (second.id().to_owned(), first.version(), second.version());
            return Err(HandshakeError::Twice { id, first, second });
        }
    }
    Ok(())
}

fn check_requirement(requirement: &Requirement) -> Result<(), HandshakeError> {
    let (id, found) = (requirement.id(), requirement.version());
    let Some(expected) = host_interface(id) else {
        return Err(HandshakeError::MissingHostInterface { id: id.to_owned() });
    };
    if found.major != expected.major {
        return Err(HandshakeError::Major { id: id.to_owned(), expected, found });
    }
    // The plugin would call functions that are not there.
    if found.minor > expected.minor {
        return Err(HandshakeError::NewerThanHost { id: id.to_owned(), expected, found });
    }
    layout::check(requirement.layout(), <HostVtableRef as StableAbi>::LAYOUT)
        .map_err(|difference| HandshakeError::Layout { what: id.to_owned(), difference })
}

fn required<T: StableAbi>(
    rows: &[Interface],
    id: &str,
    version: InterfaceVersion,
) -> Result<*const c_void, HandshakeError> {
    let row = rows
        .iter()
        .find(|row| row.id() == id)
        .ok_or_else(|| HandshakeError::MissingInterface { id: id.to_owned() })?;
    InterfaceRow { row }.vtable::<T>(version)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A library does not fit this host. Texts are copies: the library may be gone
/// when they are read.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// There is no root module.
    #[error("it exports no root module")]
    NoRoot,
    /// The header is of another abi_stable, or says too little.
    #[error("its header does not fit: {0}")]
    Header(String),
    /// A type changed.
    #[error("the layout of {what} differs at {difference}")]
    Layout {
        /// The interface, or the root module.
        what: String,
        /// Path of fields, what was expected and what was found.
        difference: String,
    },
    /// An interface of another major.
    #[error("interface {id}: expected version {expected}, found {found}")]
    Major {
        /// The interface.
        id: String,
        /// The host's version.
        expected: InterfaceVersion,
        /// The plugin's version.
        found: InterfaceVersion,
    },
    /// Two rows of one interface and major.
    #[error(
        "it offers interface {id} twice, as {first} and as {second}: one row of each major version is enough"
    )]
    Twice {
        /// The interface.
        id: String,
        /// The version of the row that comes first.
        first: InterfaceVersion,
        /// The version of the other.
        second: InterfaceVersion,
    },
    /// The plugin uses a later minor of a host interface than this host has.
    #[error("it needs host interface {id} {found}, this host has {expected}")]
    NewerThanHost {
        /// The interface.
        id: String,
        /// The host's version.
        expected: InterfaceVersion,
        /// The version that the plugin was built against.
        found: InterfaceVersion,
    },
    /// The plugin lacks an interface.
    #[error("it does not offer interface {id}")]
    MissingInterface {
        /// The interface.
        id: String,
    },
    /// The plugin keeps no books of its threads and thread-locals.
    #[error("its unload ledger cannot be installed: {status}")]
    Ledger {
        /// What it answered.
        status: Status,
    },
    /// The host lacks an interface that the plugin uses.
    #[error("it needs host interface {id}, which this host does not have")]
    MissingHostInterface {
        /// The interface.
        id: String,
    },
}

impl Failure for HandshakeError {
    fn code(&self) -> Code {
        match self {
            HandshakeError::NoRoot => Code::InspectNoRoot,
            HandshakeError::Header(_) => Code::AbiHeader,
            HandshakeError::Layout { .. } => Code::AbiLayoutMismatch,
            HandshakeError::Major { .. } | HandshakeError::Twice { .. } => Code::AbiInterfaceMajor,
            HandshakeError::Ledger { .. } => Code::AbiLedger,
            HandshakeError::MissingInterface { .. }
            | HandshakeError::MissingHostInterface { .. }
            | HandshakeError::NewerThanHost { .. } => Code::AbiMissingInterface,
        }
    }
}
