//! midwatch
