//! `gpu_agent`: reads what GPUs and inference engines say of themselves, and registers each engine
//! with control, beat by beat.
//!
//! Reading order: [`settings`] (what there is to read and for whom), [`figures`] (what is read),
//! [`engines`] over [`exposition`] (what metrics mean), [`gpus`] and [`command`] (the other sources),
//! [`fetch`] over [`watched`] (how an engine is reached), [`source`] (one reading of one engine), then
//! [`access`] (as whom control is called), [`sampler`], [`latest`] and [`heartbeat`] (two threads an engine and what is between them) and
//! [`run`] (all of them, until a signal).
//!
//! It invents nothing: what cannot be read is null, and what was read earlier is said with its age,
//! until it is too old to be said at all. Every read is bounded in bytes and in time.

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
mod heartbeat;
mod latest;
pub mod metrics;
pub mod run;
mod sampler;
