//! `/api/v1`: every request and answer.

mod audit;
mod backend;
mod change;
mod config;
mod edit;
pub mod event;
mod figures;
mod in_proxy;
mod open_session;
mod ping;
mod problem;
mod session;
mod statics;
mod status;
mod verdict;

pub use audit::AuditLines;
pub use backend::{
    Backend, Beneath, Detail, Gone, Layers, OfSource, Override, Page, Registration,
    StateReasonShape, Transition,
};
pub use change::{
    Change, Changed, Changes, Diff, Edit as BackendEdit, OverridePatch, PatchRequest,
};
pub use config::Config;
pub use edit::{Edit, Edits, OldAndNew, OverrideEdit, RollBackRequest, RolledBack, SettingsDiff};
pub use figures::{Mark, MarkKind, Series};
pub use in_proxy::{InProxy, Proxy, take_apart};
pub use open_session::SessionEnded;
pub use ping::{PingLine, PingRequest, Via};
pub use problem::{Fault, Problem};
pub use session::{Session, SignIn, SignedOut};
pub use statics::{Said, StaticBackend, StaticChanged, StaticDiff, StaticList, StaticRequest};
pub use status::{
    Failures, Freeze, LastPublish, Listener, OfProxy, OtherFile, Planned, Pool, Protocols, Status,
};
pub use verdict::{Finding, Level, Traffic, Verdict};
