//! Numbers as people read them.

/// A span of time in the unit that fits.
pub fn seconds(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span of time that people read")]
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds == 0.0 => "0 s".to_owned(),
        0..=9 => format!("{seconds:.1} s"),
        10..=119 => format!("{whole} s"),
        120..=7199 => format!("{} min", whole / 60),
        7200..=172_799 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// A number of bytes in the unit that fits.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_that_fit() {
        let times =
            [(0.0, "0 s"), (0.25, "0.2 s"), (42.4, "42 s"), (600.0, "10 min"), (9000.0, "2.5 h"), (400_000.0, "4.6 d")];
        for (value, text) in times {
            assert_eq!(seconds(value), text);
        }
        for (value, text) in
            [(0.0, "0 B"), (1536.0, "1.5 KiB"), (314_572_800.0, "300 MiB"), (1e30, "888178419700125 PiB")]
        {
            assert_eq!(bytes(value), text);
        }
    }
}
