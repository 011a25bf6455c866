//! In-process tests of the whole interface.
