//! The data plane's decisions, without a socket, clock, thread or environment: those come as
//! arguments, so that every path can be tested in virtual time.
//!
//! Which backend ([`pick`], on a [`snapshot`]; at what cost, [`load`], [`meter`], [`score`]), how
//! a session goes ([`session`]), which flow a datagram goes by and what becomes of it ([`flow`], in a
//! [`flow_table`]), what a reload changes ([`plan`], [`retirement`]), what is kept over it ([`backend`]) and
//! by which identity ([`ids`], [`listener`]), and which backends are well ([`health`], and
//! what their pool ever answered, [`protocols`]).

#![warn(missing_docs, unreachable_pub)]
pub mod backend;
pub mod batch;
pub mod counts;
pub mod failed_ends;
pub mod flow;
pub mod flow_table;
pub mod health;
pub mod held_listeners;
pub mod ids;
pub mod latency;
pub mod listener;
pub mod listing;
pub mod live;
pub mod load;
pub mod meter;
pub mod pick;
pub mod placement;
pub mod plan;
pub mod protocols;
pub mod reason;
pub mod recency_list;
pub mod registry;
pub mod retirement;
mod rings;
pub mod route;
pub mod score;
pub mod session;
pub mod slot;
pub mod snapshot;
pub mod telemetry;
pub mod timer_wheel;
