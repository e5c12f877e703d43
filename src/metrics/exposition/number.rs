//! Numbers as Prometheus reads them: as short as they can be and still mean the same double, without exponents.

use std::io::Write as _;

/// Writes a sample's value, in the digits that Rust's `Display` writes. That is slow, and most of what a scrape does is to
/// write numbers; so whole and ordinary numbers are written by crates that do nothing else.
pub(in crate::metrics) fn write_number(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    #[allow(clippy::cast_possible_truncation, reason = "a whole number of so few digits fits")]
    let whole = value as i64;
    #[allow(clippy::cast_precision_loss, reason = "whether something is lost is the question")]
    if size < 1e15 && whole as f64 == value && (whole != 0 || value.is_sign_positive()) {
        match u32::try_from(whole) {
            Ok(few) if few < EIGHT_DIGITS => write_few_digits(out, few),
            _ => out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes()),
        }
    } else if (1e-4..1e15).contains(&size) {
        let mut buffer = zmij::Buffer::new();
        let digits = buffer.format_finite(value);
        if is_tie(value, digits) {
            let _ = write!(out, "{value}");
        } else {
            out.extend_from_slice(digits.as_bytes());
        }
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        // Writing to a vector cannot fail.
        let _ = write!(out, "{value}");
    }
}

/// Whether the number lies exactly between the shortest digits that were written for it and the next ones. Of these,
/// `Display` chooses the larger, others the even one. That is so if one more digit, a five, would make them exact: if the
/// number has one fractional bit more than it has fractional digits.
fn is_tie(value: f64, digits: &str) -> bool {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = value.to_bits();
    let exponent = i64::try_from(bits >> 52 & 0x7ff).unwrap_or(0) - 1075;
    let fraction = -(exponent + i64::from((bits & MANTISSA | 1 << 52).trailing_zeros()));
    // So many digits are never written for a number of this size.
    fraction <= 22
        && digits.find('.').is_some_and(|point| digits.len() - point == usize::try_from(fraction).unwrap_or(0))
}

/// Writes a count. Those of a histogram's buckets have mostly as many digits as the one before, so guesses are right.
pub(super) fn write_count(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

/// The first number of more than eight digits.
const EIGHT_DIGITS: u32 = 100_000_000;

/// Writes a number of up to eight digits without a branch: how many digits the next number has is what a processor cannot
/// foresee, and half a million wrong guesses are a fifth of a scrape's time.
fn write_few_digits(out: &mut Vec<u8>, value: u32) {
    // Halves of four digits each, then pairs, then single digits, each in a lane of its own, the highest one lowest. The
    // multiplications divide by 100 and by 10; they are exact for as many digits as a lane has.
    let value = u64::from(value);
    let halves = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((halves - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | ((pairs - tens * 10) << 8);
    // Of 0, one zero is written.
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let text = ((digits | 0x3030_3030_3030_3030) >> (8 * zeros)).to_le_bytes();
    let end = out.len() + 8 - zeros as usize;
    out.extend_from_slice(&text);
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write_number(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn finite_numbers_are_written_as_display_writes_them(bits in any::<u64>(), exponent in 990_u64..1080) {
            let anything = f64::from_bits(bits);
            prop_assume!(anything.is_finite());
            prop_assert_eq!(written(anything), anything.to_string());
            // Most doubles are beyond all measure; these are not.
            let ordinary = f64::from_bits(bits & !(0x7ff << 52) | exponent << 52);
            prop_assert_eq!(written(ordinary), ordinary.to_string());
            // Few fractional bits make ties.
            let tie = f64::from_bits(ordinary.to_bits() >> 24 << 24);
            prop_assert_eq!(written(tie), tie.to_string());
            let decimal = (ordinary * 1e6).round() / 1e6;
            prop_assert_eq!(written(decimal), decimal.to_string());
            prop_assert_eq!(written(ordinary.round()), ordinary.round().to_string());
        }
    }

    #[test]
    fn numbers_of_few_digits_are_written_like_all_others() {
        let edges = (0..=9).flat_map(|digits| [10_u32.pow(digits) - 1, 10_u32.pow(digits)]);
        // Every half and every pair of digits, and numbers of all lengths.
        let halves = (0..10_000).flat_map(|half| [half, half * 10_000, half * 10_001]);
        for number in edges.chain(halves).chain((0..EIGHT_DIGITS).step_by(9_973)) {
            assert_eq!(written(number.into()), number.to_string());
        }
    }

    #[test]
    fn special_numbers_are_written_as_the_formats_say() {
        let cases = [(f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (f64::NAN, "NaN"), (-0.0, "-0"), (0.0, "0")];
        for (value, text) in cases {
            assert_eq!(written(value), text);
        }
        for value in [1e-5, 9.999e-5, 1e-4, 1.5e14, 1e15, 1.5e15, 1e16, 1e17, 1e21, 1e-7, f64::MAX, 5e-324, 0.1, -2.5] {
            assert_eq!(written(value), value.to_string());
        }
    }
}
