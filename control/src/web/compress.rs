//! Answers compressed with gzip if the client accepts it; files come compressed from `files`.
//!
//! Streams are not compressed here: the encoder would hold back what must be seen at once. No answer holds
//! a secret beside text that a stranger chose, so its length gives nothing away.

use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, NotForContentType, Predicate as _};
use tower_http::compression::{CompressionLayer, DefaultPredicate};

type Compressible = And<DefaultPredicate, NotForContentType>;

/// The fastest level: control has one thread, and thousands of backends make megabytes of JSON.
pub fn layer() -> CompressionLayer<Compressible> {
    let not_streams = NotForContentType::const_new("application/x-ndjson");
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(DefaultPredicate::new().and(not_streams))
}
