//! `gpu_agent`: reads the figures of GPUs and inference engines, and registers each engine with control,
//! with a heartbeat each second.
//!
//! Reading order: [`settings`] (what to read, for which engine), [`figures`] (what is read),
//! [`engines`] over [`exposition`] (what metrics mean), [`gpus`] and [`command`] (the other sources),
//! [`fetch`] over [`watched`] (how an engine is reached), [`source`] (one reading of one engine), then
//! [`access`] (credentials for control), [`sampler`], [`latest`] and [`heartbeat`] (two threads an engine and what is between them) and
//! [`run`] (all of them, until a signal).
//!
//! It invents nothing: a figure that cannot be read is null, and one that was read earlier is reported
//! with its age, until it is too old to be reported. Every read is bounded in bytes and in time.

pub mod settings;

pub mod figures;

pub mod exposition;

pub mod engines;

pub mod amdgpu;
pub mod gpus;
pub mod nvml;

pub mod command;
pub mod fetch;
pub mod watched;

pub mod health;
pub mod source;

pub mod access;
pub mod counts;
mod heartbeat;
mod latest;
pub mod metrics;
pub mod run;
mod sampler;
