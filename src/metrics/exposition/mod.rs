//! The formats in which metrics are written.

pub mod text;

use std::io::Write as _;

/// Writes a number as Prometheus reads it.
pub(super) fn write_number(out: &mut Vec<u8>, value: f64) {
    // Writing to a vector cannot fail.
    let _ = if value.is_finite() {
        write!(out, "{value}")
    } else if value.is_nan() {
        out.write_all(b"NaN")
    } else if value > 0.0 {
        out.write_all(b"+Inf")
    } else {
        out.write_all(b"-Inf")
    };
}
