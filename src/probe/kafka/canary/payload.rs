//! The bytes of a record: who sent it and which one it is. No time: that stays with the sender's monotonic clock.

/// Begins every record, and says which version of this layout follows.
const MAGIC: &[u8; 4] = b"mwc1";

/// Tells the sender from every other midwatch that uses the same topic, and from its own earlier life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token([u8; 8]);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes of the record with that number.
    pub(super) fn write(self, seq: u64) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..12].copy_from_slice(&self.0);
        bytes[12..].copy_from_slice(&seq.to_be_bytes());
        bytes
    }

    /// The number of the record, if this is one of ours.
    pub(super) fn read(self, bytes: &[u8]) -> Option<u64> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&self.0)?;
        rest.try_into().ok().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_records_are_read() {
        let (ours, theirs) = (Token([1; 8]), Token([2; 8]));
        assert_eq!(ours.read(&ours.write(7)), Some(7));
        assert_eq!(ours.read(&theirs.write(7)), None);
        let bytes = ours.write(u64::MAX);
        assert_eq!(ours.read(&bytes), Some(u64::MAX));
        for length in 0..bytes.len() {
            assert_eq!(ours.read(&bytes[..length]), None, "{length}");
        }
        assert_eq!(ours.read(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(Token::random().unwrap(), Token::random().unwrap());
    }
}
