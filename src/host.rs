//! This machine's name, and the number in it.

use std::borrow::Cow;

/// What stands for the number in a text.
pub const ORDINAL: &str = "{ordinal}";

/// The host's name: the variable `HOSTNAME`, which pods have and which can be set by hand, or what the kernel says. `None` if
/// neither is to be had.
pub fn name() -> Option<String> {
    let told = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let file = |path: &str| std::fs::read_to_string(path).ok().and_then(told);
    let variable = std::env::var("HOSTNAME").ok().and_then(told);
    // The second file is there where a service may not see the kernel's.
    variable.or_else(|| file("/proc/sys/kernel/hostname")).or_else(|| file("/etc/hostname"))
}

/// The number that a host name ends in after its last `-`, as those of a StatefulSet's pods do: 2 of `midwatch-2`.
pub fn ordinal(host: &str) -> Option<u32> {
    // The short name: that of the machine, without its domain.
    let short = host.split('.').next()?;
    digits(short.rsplit_once('-')?.1)
}

/// The text with this host's number in place of `{ordinal}`, so that replicas with one configuration can have keys and addresses of
/// their own. Where a configuration is only `checked`, it is 0 if this host has none.
///
/// # Errors
/// The text wants the number, and the host's name does not end in one.
pub fn fill(text: &str, is_checked: bool) -> Result<Cow<'_, str>, &'static str> {
    const NONE: &str =
        "`{ordinal}` is the number at the end of the host name, as in midwatch-0, and this host's has none";
    if !text.contains(ORDINAL) {
        return Ok(text.into());
    }
    let own = name().and_then(|host| ordinal(&host)).or(is_checked.then_some(0)).ok_or(NONE)?;
    Ok(text.replace(ORDINAL, &own.to_string()).into())
}

/// A number in plain digits.
pub fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_pod() {
        let table = [("midwatch-0", Some(0)), ("a-b-17", Some(17)), ("a-b-17.x-3", Some(17)), ("midwatch", None)];
        for (host, expected) in table.into_iter().chain([("midwatch-", None), ("midwatch-2b", None), ("7", None)]) {
            assert_eq!(ordinal(host), expected, "{host}");
        }
    }

    #[test]
    fn a_text_that_wants_no_number_stays() {
        assert_eq!(fill("/etc/{ordinals}/key", false), Ok("/etc/{ordinals}/key".into()));
        assert!(fill("10.8.0.1{ordinal}", true).unwrap().starts_with("10.8.0.1"));
        assert!(!fill("key-{ordinal}", true).unwrap().contains('{'));
    }
}
