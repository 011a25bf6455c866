//! In-process tests of the whole interface: the router, the keeper and the publisher over a real
//! folder, with time moved by hand.

mod forgery;
mod grace;
mod harness;
mod mutations;
mod proxy;
mod proxy_refusals;
mod refusals;
mod security;
mod serving;
mod sessions;
mod statics;
mod v1;
mod v1_detail;
mod v1_edits;
mod v1_series;
mod v1_streams;
mod views;
