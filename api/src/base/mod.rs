//! The calls of the base API. Programs that know no newer one use them, so their answers stay byte for byte; what
//! they share with `v1` is made from `v1`.

mod backend;
mod error;
mod override_call;
mod register;
mod whole;

pub use backend::{Backend, Backends, UnusedOverride};
pub use error::{Fault, Refusal, Refused};
pub use override_call::{
    DrainRequest, DrainUpdated, EnabledRequest, EnabledUpdated, Nothing, Updated, WeightRequest,
    WeightUpdated,
};
pub use register::{RegisterRequest, Registered, Target, UnregisterRequest, Unregistered};
pub use whole::{AuditLog, LostLines, PingAnswer, PingRequest, Proxy, SettingsAnswer};

pub use crate::settings::{RolledBack, SettingsChanged};
