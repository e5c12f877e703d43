//! Proves the store and the text exposition, by models and oracles.

mod atomic;
mod forget;
mod model;
mod text;
