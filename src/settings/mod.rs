//! Reading configuration values key by key. A leaf module: it knows TOML and files, but no probe and no scheduler, so
//! that a probe type's own configuration can be built from the types here.
//!
//! No serde: a derived reader stops at its first error and echoes the value it could not use. Here every key is asked
//! for, everything wrong with it becomes a [`Problem`] with its place, and reading goes on. No message ever contains
//! a value or a line of the file, because both may be secrets.

mod address;
mod duration;
mod file;
mod labels;
mod problem;
mod secret;
mod section;
mod size;
mod source;
mod url;
mod value;

pub use address::{Endpoint, HostPort};
pub use duration::parse as parse_duration;
pub use file::{Content, FileContent, Files, ReadError, Seen};
pub use labels::{Labels, RESERVED_LABELS, is_label_name};
pub use problem::{Problem, Problems, escape};
pub use secret::Secret;
pub use section::{Section, unknown};
pub use size::Size;
pub use source::{MAX_CONFIG_BYTES, MAX_FILE_BYTES, Rules, Source};
pub use url::HttpUrl;
pub use value::{Invalid, Item, Value, nearest};

/// A table of the configuration that reads itself.
pub trait Settings: Sized {
    /// Asks the section for every key. `None` means there is no usable value; why is then in the section. A value may
    /// also be returned although there are problems: the caller throws it away then.
    ///
    /// Ask for *all* keys before the first `?`: a key that was not asked for is reported as unknown.
    fn read(section: &mut Section<'_>) -> Option<Self>;
}

#[cfg(test)]
mod tests;
