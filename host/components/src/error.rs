//! What can go wrong with a component.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use espalier_state::StateError;

use crate::World;

/// Why a component could not be loaded, called or deployed. The host itself is never affected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// The bytes are no component.
    #[error("{component} is not a WebAssembly component: {reason}")]
    NotAComponent {
        /// The file or digest.
        component: String,
        /// What the parser or compiler said.
        reason: String,
    },
    /// The file is larger than the host takes.
    #[error("{component} has {found} bytes, more than the limit of {limit} bytes for a component")]
    TooLarge {
        /// The file or digest.
        component: String,
        /// Its size.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Compiling it would take too long or too much memory.
    #[error("{component} has {found} {part}, more than the limit of {limit}")]
    TooComplex {
        /// The file or digest.
        component: String,
        /// What it has too much of: "functions".
        part: &'static str,
        /// How many were counted when the limit was passed.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The imports or exports do not fit the world.
    #[error("{component} does not fit the world {expected}: {}", problems.join("; "))]
    WrongWorld {
        /// The file or digest.
        component: String,
        /// The world that was asked for.
        expected: World,
        /// What is missing or of the wrong type, one sentence each.
        problems: Vec<String>,
    },
    /// The component exports none of the interfaces that make a world.
    #[error(
        "{component} has no world that this host knows: it exports {exports}, expected one of espalier:policy/scoring, espalier:policy/routing, espalier:policy/metric, espalier:endpoint/about"
    )]
    UnknownWorld {
        /// The file or digest.
        component: String,
        /// What it exports.
        exports: String,
    },
    /// The component reached a limit and its call was ended.
    #[error("{component} was stopped in \"{call}\": {limit}")]
    Limit {
        /// `name@version`, or the digest before that is known.
        component: String,
        /// The call.
        call: &'static str,
        /// The limit.
        limit: Limit,
    },
    /// The component trapped.
    #[error("{component} trapped in \"{call}\": {reason}")]
    Trap {
        /// `name@version`, or the digest before that is known.
        component: String,
        /// The call.
        call: &'static str,
        /// The kind of trap.
        reason: String,
    },
    /// The component answered with its own error.
    #[error("{component} refused \"{call}\": {message}")]
    Guest {
        /// `name@version`.
        component: String,
        /// The call.
        call: &'static str,
        /// The guest's words.
        message: String,
    },
    /// The component answered with something that the contract does not allow.
    #[error("{component} answered \"{call}\" with {found}, expected {expected}")]
    InvalidAnswer {
        /// `name@version`, or the digest before that is known.
        component: String,
        /// The call.
        call: &'static str,
        /// What came.
        found: String,
        /// What the contract says.
        expected: String,
    },
    /// The caller asked the component for something that it does not do.
    #[error("{component} {problem}")]
    Unsupported {
        /// `name@version`.
        component: String,
        /// What it does not do, and what it does.
        problem: String,
    },
    /// An endpoint answered with one of the error codes of `wasi:http` in place of a response.
    #[error("{component} answered \"handle\" with the error {code}")]
    ErrorCode {
        /// `name@version`.
        component: String,
        /// The code.
        code: String,
    },
    /// The client of an endpoint went away, which ends the call.
    #[error("{component} was stopped in \"{call}\": its client went away")]
    Abandoned {
        /// `name@version`.
        component: String,
        /// The call.
        call: &'static str,
    },
    /// A host that an operator grants, and that is none.
    #[error("\"{found}\" is not a host that can be granted: expected {expected}")]
    InvalidGrant {
        /// The text.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// What the component measures with failed or was cancelled.
    #[error("{component} could not go on in \"{call}\": {source}")]
    Input {
        /// `name@version`.
        component: String,
        /// The call.
        call: &'static str,
        /// The error of what [`MetricInputs`](crate::MetricInputs) holds.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The host has no room for a further instance.
    #[error("{component} cannot start: the host's {limit} instances are all in use")]
    Busy {
        /// `name@version`.
        component: String,
        /// How many there are.
        limit: u32,
    },
    /// Nobody vouches for the component, and the host has a list of those who may.
    #[error("{component} is not signed, and this host takes only components that a trusted key has signed")]
    Unsigned {
        /// The file or `name@version`.
        component: String,
    },
    /// Somebody vouches for the component whom the host does not know.
    #[error("{component} is signed with the key {key}, expected one of this host's trusted keys")]
    UnknownSigner {
        /// The file or `name@version`.
        component: String,
        /// The signer's public key.
        key: String,
    },
    /// The signature is of other bytes, or not by that key.
    #[error("{component} does not fit its signature: the key {key} has not signed the digest {digest}")]
    WrongSignature {
        /// The file or `name@version`.
        component: String,
        /// The public key in the signature.
        key: String,
        /// The SHA-256 of the component's file.
        digest: String,
    },
    /// A key or a signature that is none.
    #[error("{place}: found {found}, expected {expected}")]
    InvalidKey {
        /// Where it was: a file and a line, or "the signature".
        place: String,
        /// What was found.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A name is not one of those that exist, or not well formed.
    #[error("\"{found}\" is not a {kind}: expected {expected}")]
    InvalidName {
        /// What it should name: "world", "unit", "slot".
        kind: &'static str,
        /// The text.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A configuration that is too large, or with a key that is none.
    #[error("the configuration has {found}, expected {expected}")]
    InvalidConfiguration {
        /// What was found.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// No component file of that name was found.
    #[error(
        "no component \"{name}\" was found in {searched}; built-in components come from `cargo xtask setup`"
    )]
    FileNotFound {
        /// The name.
        name: String,
        /// The folders that were searched.
        searched: String,
    },
    /// Nothing of that name is deployed.
    #[error("no component \"{0}\" is deployed")]
    NotDeployed(String),
    /// More than one deployed component fits.
    #[error("\"{reference}\" fits several deployed components: {found}")]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// What fits.
        found: String,
    },
    /// The slot has no active component.
    #[error("the slot {0} is empty")]
    SlotEmpty(String),
    /// There is no earlier activation to return to.
    #[error("the slot {0} has no earlier activation to roll back to")]
    NothingEarlier(String),
    /// The slot has no canary.
    #[error("the slot {0} has no canary")]
    NoCanary(String),
    /// The component's world is not the slot's.
    #[error("{component} has the world {found}, the slot {slot} takes {expected}")]
    WrongSlot {
        /// `name@version`.
        component: String,
        /// Its world.
        found: World,
        /// The slot.
        slot: String,
        /// The slot's world.
        expected: World,
    },
    /// The same name and version with other bytes is deployed already.
    #[error(
        "{component} is deployed already with the digest {found}, not {offered}: raise the version or remove the other one"
    )]
    VersionTaken {
        /// `name@version`.
        component: String,
        /// The digest in the store.
        found: String,
        /// The digest that was offered.
        offered: String,
    },
    /// The component is active and cannot be removed.
    #[error("{component} is active in {slots}: activate another one there first")]
    InUse {
        /// `name@version`.
        component: String,
        /// The slots.
        slots: String,
    },
    /// The state directory failed, or somebody else changed the slot first.
    #[error(transparent)]
    State(#[from] StateError),
    /// What the state directory says of a slot is not what a host writes.
    #[error("the record of a slot cannot be read: {0}")]
    Record(String),
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The WebAssembly engine could not be set up.
    #[error("the WebAssembly engine failed: {0}")]
    Engine(String),
}

impl ComponentError {
    /// What a call ended in, for metric labels: the limit's name, or else the error's kind.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Limit { limit, .. } => limit.name(),
            other => other.kind(),
        }
    }

    /// A short, stable name of the error's kind, for JSON and metric labels.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotAComponent { .. } => "not_a_component",
            Self::TooLarge { .. } => "too_large",
            Self::TooComplex { .. } => "too_complex",
            Self::WrongWorld { .. } => "wrong_world",
            Self::UnknownWorld { .. } => "unknown_world",
            Self::Limit { .. } => "limit",
            Self::Trap { .. } => "trap",
            Self::Guest { .. } => "guest",
            Self::InvalidAnswer { .. } => "invalid_answer",
            Self::Unsupported { .. } => "unsupported",
            Self::ErrorCode { .. } => "error_code",
            Self::Abandoned { .. } => "abandoned",
            Self::InvalidGrant { .. } => "invalid_grant",
            Self::Input { .. } => "input",
            Self::Busy { .. } => "busy",
            Self::Unsigned { .. } => "unsigned",
            Self::UnknownSigner { .. } => "unknown_signer",
            Self::WrongSignature { .. } => "wrong_signature",
            Self::InvalidKey { .. } => "invalid_key",
            Self::InvalidName { .. } => "invalid_name",
            Self::InvalidConfiguration { .. } => "invalid_configuration",
            Self::FileNotFound { .. } => "file_not_found",
            Self::NotDeployed(_) => "not_deployed",
            Self::Ambiguous { .. } => "ambiguous",
            Self::SlotEmpty(_) => "slot_empty",
            Self::NothingEarlier(_) => "nothing_earlier",
            Self::NoCanary(_) => "no_canary",
            Self::WrongSlot { .. } => "wrong_slot",
            Self::VersionTaken { .. } => "version_taken",
            Self::InUse { .. } => "in_use",
            Self::State(StateError::RevisionConflict { .. }) => "revision_conflict",
            Self::State(_) | Self::Record(_) => "state",
            Self::File { .. } => "file",
            Self::Engine(_) => "engine",
        }
    }
}

/// A limit that a component reached, with what was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// It computed for too long.
    GuestTime(Duration),
    /// The call took too long in all.
    WallTime(Duration),
    /// It made too many host calls.
    HostCalls(u64),
    /// Its linear memories would have grown beyond this many bytes.
    Memory {
        /// What it wanted in all, in bytes.
        wanted: usize,
        /// What it may have.
        allowed: usize,
    },
    /// Its tables would have grown beyond this many elements.
    TableElements {
        /// What it wanted in all.
        wanted: usize,
        /// What it may have.
        allowed: usize,
    },
    /// It has more core instances, tables or memories than this.
    Instances(usize),
    /// Its stack overflowed.
    Stack(usize),
    /// Its tensors would have grown beyond the quota in bytes.
    TensorBytes {
        /// What it wanted in all, in bytes.
        wanted: usize,
        /// What it may have.
        allowed: usize,
    },
    /// It holds more tensors than this.
    Tensors(usize),
    /// It holds more sessions than this.
    Sessions(usize),
    /// Its sessions would generate more tokens than this in one call.
    GeneratedTokens(u64),
    /// It wrote more notes for the report than this.
    Notes(usize),
    /// More of its calls than this would run at once.
    ConcurrentCalls(usize),
    /// A list or string from it is larger than this many bytes.
    CrossingBytes(usize),
}

impl Limit {
    /// A short, stable name for metric labels.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::GuestTime(_) => "guest_time",
            Self::WallTime(_) => "wall_time",
            Self::HostCalls(_) => "host_calls",
            Self::Memory { .. } => "memory",
            Self::TableElements { .. } => "table_elements",
            Self::Instances(_) => "instances",
            Self::Stack(_) => "stack",
            Self::TensorBytes { .. } => "tensor_bytes",
            Self::Tensors(_) => "tensors",
            Self::Sessions(_) => "sessions",
            Self::GeneratedTokens(_) => "generated_tokens",
            Self::Notes(_) => "notes",
            Self::ConcurrentCalls(_) => "concurrent_calls",
            Self::CrossingBytes(_) => "crossing_bytes",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuestTime(limit) => write!(f, "it computed for longer than {limit:?}"),
            Self::WallTime(limit) => write!(f, "the call took longer than {limit:?}"),
            Self::HostCalls(limit) => write!(f, "it made more than {limit} host calls"),
            Self::Memory { wanted, allowed } => {
                write!(f, "it wanted {wanted} bytes of memory, allowed are {allowed} bytes")
            }
            Self::TableElements { wanted, allowed } => {
                write!(f, "it wanted {wanted} table elements, allowed are {allowed}")
            }
            Self::Instances(limit) => {
                write!(f, "it has more than {limit} core instances, tables or memories")
            }
            Self::Stack(limit) => write!(f, "its stack grew beyond {limit} bytes"),
            Self::TensorBytes { wanted, allowed } => {
                write!(f, "it wanted {wanted} bytes of tensors, its quota is {allowed} bytes")
            }
            Self::Tensors(limit) => write!(f, "it holds more than {limit} tensors"),
            Self::Sessions(limit) => write!(f, "it holds more than {limit} sessions"),
            Self::GeneratedTokens(limit) => {
                write!(f, "its sessions were to generate more than {limit} tokens in one call")
            }
            Self::Notes(limit) => write!(f, "it wrote more than {limit} notes for the report"),
            Self::ConcurrentCalls(limit) => write!(f, "{limit} of its calls run already"),
            Self::CrossingBytes(limit) => write!(f, "it passed more than {limit} bytes to the host at once"),
        }
    }
}

impl Error for Limit {}
