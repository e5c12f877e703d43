//! Reads what a broker sent, and believes no length in it.
//!
//! The codec crate encodes our requests, but does not decode responses: it allocates whatever an array's length claims
//! (`Array::decode` of `kafka-protocol` 0.18), so that twelve hostile bytes would abort the process. Reading straight into
//! the collector's own types also saves a tree of structures per response.

use std::fmt;

/// The bytes are no response of the API and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(
    /// What was expected.
    pub &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed response: {}", self.0)
    }
}

/// Arrays reserve memory for no more elements than this before the elements are there.
const MOST_RESERVED: usize = 1024;

/// A cursor over a response body. "Flexible" versions (KIP-482) have compact lengths and tagged fields; the methods read
/// whichever form the version has.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    flexible: bool,
}

impl<'b> Reader<'b> {
    /// A reader of a whole body.
    pub fn new(bytes: &'b [u8], flexible: bool) -> Self {
        Self { bytes, flexible }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// A boolean.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// A UUID.
    pub fn uuid(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_be_bytes(self.fixed()?))
    }

    /// An unsigned number of one to five bytes, seven bits in each.
    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed("a number is out of range"));
            }
        }
        Err(Malformed("a number has too many bytes"))
    }

    /// The length of a string, byte string or array; `None` is null. `short` lengths have two bytes in inflexible
    /// versions, others four.
    fn length(&mut self, short: bool) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            // Shifted by one: 0 is null.
            return Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize));
        }
        let length = if short { i32::from(self.i16()?) } else { self.i32()? };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(Malformed("a length is negative")),
        }
    }

    /// A string that may be null.
    pub fn nullable_str(&mut self) -> Result<Option<&'b str>, Malformed> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed("a string is not UTF-8"))
    }

    /// A string.
    pub fn str(&mut self) -> Result<&'b str, Malformed> {
        self.nullable_str()?.ok_or(Malformed("a string is null"))
    }

    /// Bytes; null is none.
    pub fn bytes(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.length(false)?.unwrap_or(0);
        self.take(length)
    }

    /// Calls `read` for each element of an array; false if the array is null.
    pub fn each(&mut self, mut read: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<bool, Malformed> {
        let Some(count) = self.count()? else { return Ok(false) };
        for _ in 0..count {
            read(self)?;
        }
        Ok(true)
    }

    /// An array; null is empty.
    pub fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.count()?.unwrap_or(0);
        let mut all = Vec::with_capacity(count.min(MOST_RESERVED));
        for _ in 0..count {
            all.push(read(self)?);
        }
        all.shrink_to_fit();
        Ok(all)
    }

    fn count(&mut self) -> Result<Option<usize>, Malformed> {
        let count = self.length(false)?;
        // No element is shorter than a byte: more of them than bytes is a lie, found before any is read.
        if count.is_some_and(|count| count > self.remaining()) {
            return Err(Malformed("an array is longer than the response"));
        }
        Ok(count)
    }

    /// The tagged fields at the end of a structure in flexible versions; none of them is of use to us.
    pub fn tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.take(length as usize)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_not_believed() {
        // Two billion elements, of which none is there.
        let claims = [0x7f, 0xff, 0xff, 0xff];
        assert!(Reader::new(&claims, false).array(Reader::i64).is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).array(Reader::i64).is_err());
        assert!(Reader::new(&[0x7f, 0xff], false).str().is_err());
        assert!(Reader::new(&[0x80, 0x00, 0, 0], false).bytes().is_err());
        assert!(Reader::new(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], true).tags().is_err());
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(Reader::new(&[0, 2, b'a', b'b'], false).str(), Ok("ab"));
        assert_eq!(Reader::new(&[3, b'a', b'b'], true).str(), Ok("ab"));
        assert_eq!(Reader::new(&[0xff, 0xff], false).nullable_str(), Ok(None));
        assert_eq!(Reader::new(&[0], true).nullable_str(), Ok(None));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 1, 2], false).array(Reader::i8), Ok(vec![1, 2]));
        assert_eq!(Reader::new(&[3, 1, 2], true).array(Reader::i8), Ok(vec![1, 2]));
        assert_eq!(Reader::new(&[0xac, 0x02], true).uvarint(), Ok(300));
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f], true).uvarint().is_err());
        assert!(Reader::new(&[0x80; 6], true).uvarint().is_err());
    }
}
