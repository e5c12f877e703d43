//! Key files: a static key of 2048 bits, and what `--tls-crypt-v2` gives a client.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The bytes of a static key: two pairs of a cipher's key and an HMAC's, 64 bytes each (`struct key2` in crypto.h).
const STATIC_LENGTH: usize = 256;
const PART: usize = 64;
const STATIC: &str = "OpenVPN Static key V1";
const V2_CLIENT: &str = "OpenVPN tls-crypt-v2 client key";
const V2_SERVER: &str = "OpenVPN tls-crypt-v2 server key";
/// The length of a wrapped key: a tag, 256 bytes and its own length at least (`tls_crypt.h`).
const WRAPPED: std::ops::RangeInclusive<usize> = 32 + STATIC_LENGTH + 2..=1024;

/// A static key. Wiped from memory when dropped, and never shown: it has no `Debug`.
pub(super) struct StaticKey(Zeroizing<Vec<u8>>);

/// What a client of tls-crypt-v2 has.
pub(super) struct V2Key {
    /// The client's own key.
    pub(super) key: StaticKey,
    /// The same, wrapped for the server alone, which learns the key from it.
    pub(super) wrapped: Zeroizing<Vec<u8>>,
}

impl StaticKey {
    /// Reads what `openvpn --genkey secret` wrote.
    ///
    /// # Errors
    /// What is wrong with it, without anything of it.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let body = block(file, STATIC)?;
        let digits = body.lines().flat_map(str::chars).filter(|c| !c.is_whitespace());
        let mut bytes = Zeroizing::new(Vec::with_capacity(STATIC_LENGTH));
        let mut high = None;
        for digit in digits {
            let Some(value) = digit.to_digit(16).and_then(|value| u8::try_from(value).ok()) else {
                return Err("the static key holds something that is no hexadecimal digit".to_owned());
            };
            match high.take() {
                None => high = Some(value << 4),
                Some(_) if bytes.len() == STATIC_LENGTH => return Err(length_words()),
                Some(high) => bytes.push(high | value),
            }
        }
        if bytes.len() == STATIC_LENGTH && high.is_none() { Ok(Self(bytes)) } else { Err(length_words()) }
    }

    /// Nothing but zeroes, for fuzzing.
    pub(super) fn zero() -> Self {
        Self(Zeroizing::new(vec![0; STATIC_LENGTH]))
    }

    /// The key of a cipher: of the first pair, or of the second.
    pub(super) fn cipher(&self, pair: usize) -> &[u8] {
        self.part(2 * pair)
    }

    /// The key of an HMAC, likewise.
    pub(super) fn hmac(&self, pair: usize) -> &[u8] {
        self.part(2 * pair + 1)
    }

    fn part(&self, place: usize) -> &[u8] {
        self.0.chunks_exact(PART).nth(place).unwrap_or_default()
    }
}

impl V2Key {
    /// Reads what `openvpn --genkey tls-crypt-v2-client` wrote.
    ///
    /// # Errors
    /// What is wrong with it, without anything of it.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let body = block(file, V2_CLIENT)?;
        let mut text = Zeroizing::new(String::with_capacity(body.len()));
        text.extend(body.split_whitespace());
        let mut all = Zeroizing::new(vec![0; text.len()]);
        // The decoder's own error is not shown: it would quote the key.
        let length = STANDARD
            .decode_slice(text.as_bytes(), &mut all)
            .map_err(|_| "the tls-crypt-v2 client key is not Base64".to_owned())?;
        let bytes = all.get(..length).unwrap_or_default();
        let (key, wrapped) = bytes.split_at_checked(STATIC_LENGTH).unwrap_or((bytes, &[]));
        let claimed = wrapped.last_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
        if !WRAPPED.contains(&wrapped.len()) || claimed != Some(wrapped.len()) {
            return Err("the tls-crypt-v2 client key is cut short or damaged".to_owned());
        }
        Ok(Self { key: StaticKey(Zeroizing::new(key.to_vec())), wrapped: Zeroizing::new(wrapped.to_vec()) })
    }
}

fn length_words() -> String {
    format!("the static key is not {} bits long", STATIC_LENGTH * 8)
}

/// What is between the lines that say what it is.
fn block<'f>(file: &'f [u8], kind: &str) -> Result<&'f str, String> {
    let text = std::str::from_utf8(file).map_err(|_| "the key file is not text".to_owned())?;
    let between = |kind: &str| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {kind}-----"))?;
        Some(rest.split_once(&format!("-----END {kind}-----"))?.0)
    };
    between(kind).ok_or_else(|| {
        let other = [STATIC, V2_CLIENT, V2_SERVER].into_iter().find(|other| *other != kind && between(other).is_some());
        match other {
            Some(other) => format!("the key file holds an {other}, not an {kind}"),
            None => format!("the key file holds no whole {kind}"),
        }
    })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "bytes of test keys")]
pub(super) mod tests {
    use super::*;

    /// A file with a static key of the bytes that `byte` gives for each place.
    pub(in super::super) fn static_file(byte: impl Fn(usize) -> u8) -> String {
        let lines: Vec<String> =
            (0..16).map(|line| (0..16).map(|column| format!("{:02x}", byte(line * 16 + column))).collect()).collect();
        format!(
            "#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN {STATIC}-----\n{}\n-----END {STATIC}-----\n",
            lines.join("\n")
        )
    }

    /// A file with a client's key of tls-crypt-v2, likewise; it is wrapped in zeroes.
    pub(in super::super) fn v2_file(byte: impl Fn(usize) -> u8) -> String {
        let mut bytes: Vec<u8> = (0..256).map(byte).collect();
        bytes.extend([0; 288]);
        bytes.extend(290_u16.to_be_bytes());
        let text = STANDARD.encode(bytes);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {V2_CLIENT}-----\n{}\n-----END {V2_CLIENT}-----\n", lines.join("\n"))
    }

    fn error<T>(result: Result<T, String>) -> String {
        result.err().unwrap()
    }

    #[test]
    fn parts_are_where_openvpn_has_them() {
        let key = StaticKey::read(static_file(|place| place as u8).as_bytes()).unwrap();
        let firsts = [key.cipher(0)[0], key.hmac(0)[0], key.cipher(1)[0], key.hmac(1)[0]];
        assert_eq!(firsts, [0, 64, 128, 192]);
        assert_eq!(key.hmac(1).len(), 64);
    }

    #[test]
    fn bad_files_are_told_without_their_content() {
        let good = static_file(|_| 0xab);
        let words = |file: &str| error(StaticKey::read(file.as_bytes()));
        assert_eq!(words("abababab"), "the key file holds no whole OpenVPN Static key V1");
        assert_eq!(words(&good.replacen("ab", "", 1)), "the static key is not 2048 bits long");
        assert_eq!(words(&good.replacen("ab", "a", 1)), "the static key is not 2048 bits long");
        assert_eq!(words(&good.replacen("ab", "abab", 1)), "the static key is not 2048 bits long");
        assert_eq!(words(&good.replacen("ab", "xy", 1)), "the static key holds something that is no hexadecimal digit");
        assert_eq!(error(StaticKey::read(&[0xff])), "the key file is not text");
        let v2 = v2_file(|_| 0xab);
        assert!(V2Key::read(v2.as_bytes()).is_ok_and(|key| key.wrapped.len() == 290));
        assert_eq!(words(&v2), "the key file holds an OpenVPN tls-crypt-v2 client key, not an OpenVPN Static key V1");
        let words = |file: &str| error(V2Key::read(file.as_bytes()));
        assert_eq!(words(&good), "the key file holds an OpenVPN Static key V1, not an OpenVPN tls-crypt-v2 client key");
        assert_eq!(words(&v2.replacen("q6u", "q-u", 1)), "the tls-crypt-v2 client key is not Base64");
        assert_eq!(words(&v2.replacen("q6ur", "", 1)), "the tls-crypt-v2 client key is cut short or damaged");
    }
}
