//! Answers of HTTP/1.1, read with limits (RFC 9112).

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::probe::net::{clean, read_failure};
use crate::probe::{Failure, Reason};

/// The most bytes of a status line with all headers.
const MAX_HEAD: usize = 16 << 10;
/// The most bytes of a body.
const MAX_BODY: usize = 64 << 10;
/// The most bytes of lines within a body that comes in chunks.
const MAX_CHUNK_LINES: usize = 16 << 10;

/// Reads an answer.
pub(super) struct Reader<S> {
    stream: S,
    arrived: BytesMut,
}

/// A status line and what matters of the headers.
pub(super) struct Head {
    pub(super) status: u16,
    /// The line, for people.
    pub(super) line: String,
    /// What the body is, without parameters, in small letters.
    pub(super) content_type: String,
    body: Length,
}

/// How long a body is (RFC 9112, section 6).
#[derive(Clone, Copy)]
enum Length {
    Bytes(usize),
    Chunked,
    ToTheEnd,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, arrived: BytesMut::new() }
    }

    /// Waits for the first byte.
    ///
    /// # Errors
    /// `closed` if there is none.
    pub(super) async fn wait(&mut self) -> Result<(), Failure> {
        if self.more().await? {
            return Ok(());
        }
        Err(Failure::new(Reason::Closed, "the server closed the connection without an answer"))
    }

    /// Reads the status line and the headers.
    ///
    /// # Errors
    /// `protocol` if it is not HTTP, or too much.
    pub(super) async fn head(&mut self) -> Result<Head, Failure> {
        let mut left = MAX_HEAD;
        let line = self.line(&mut left).await?;
        let status = status(&line).ok_or_else(|| Failure::new(Reason::Protocol, "the server does not speak HTTP"))?;
        let line = clean(&String::from_utf8_lossy(&line));
        let mut head = Head { status, line, content_type: String::new(), body: Length::ToTheEnd };
        loop {
            let header = self.line(&mut left).await?;
            if header.is_empty() {
                return Ok(head);
            }
            head.add(&header)?;
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// `protocol` if it breaks the rules, or is too much; `closed` if it is cut short.
    pub(super) async fn body(&mut self, head: &Head) -> Result<Vec<u8>, Failure> {
        match head.body {
            Length::Bytes(length) if length > MAX_BODY => Err(too_much("body")),
            Length::Bytes(length) => self.take(length).await,
            Length::Chunked => self.chunks().await,
            Length::ToTheEnd => {
                while self.more().await? {
                    if self.arrived.len() > MAX_BODY {
                        return Err(too_much("body"));
                    }
                }
                Ok(self.arrived.split().to_vec())
            }
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let (mut body, mut left) = (Vec::new(), MAX_CHUNK_LINES);
        loop {
            let line = self.line(&mut left).await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            // `from_str_radix` would take a sign.
            let length = Some(digits)
                .filter(|digits| digits.first().is_some_and(u8::is_ascii_hexdigit))
                .and_then(|digits| usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
                .ok_or_else(|| broken("a chunk"))?;
            if length > MAX_BODY - body.len() {
                return Err(too_much("body"));
            }
            if length == 0 {
                return Ok(body);
            }
            body.extend(self.take(length).await?);
            if !self.line(&mut left).await?.is_empty() {
                return Err(broken("a chunk"));
            }
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.arrived.len() < length {
            self.must_be_more().await?;
        }
        Ok(self.arrived.split_to(length).to_vec())
    }

    /// The next line without its end. `left` is how many bytes there may still be of such lines.
    async fn line(&mut self, left: &mut usize) -> Result<Vec<u8>, Failure> {
        let mut searched = 0;
        loop {
            let unseen = self.arrived.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let end = searched + at;
                *left = left.checked_sub(end + 1).ok_or_else(|| too_much("head"))?;
                let mut line = self.arrived.split_to(end).to_vec();
                self.arrived.advance(1);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.arrived.len();
            if searched >= *left {
                return Err(too_much("head"));
            }
            self.must_be_more().await?;
        }
    }

    async fn must_be_more(&mut self) -> Result<(), Failure> {
        if self.more().await? {
            return Ok(());
        }
        Err(Failure::new(Reason::Closed, "the server closed the connection in the middle of its answer"))
    }

    /// Waits for more bytes. `false` is the end; a connection that ends without TLS's own goodbye has ended, too.
    async fn more(&mut self) -> Result<bool, Failure> {
        match self.stream.read_buf(&mut self.arrived).await {
            Ok(length) => Ok(length > 0),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(read_failure("read the answer", &error)),
        }
    }
}

impl Head {
    /// Takes in a header.
    fn add(&mut self, header: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(header);
        let (name, value) = text.split_once(':').ok_or_else(|| broken("a header"))?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(broken("a header"));
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => {
                self.content_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => self.body = Length::Chunked,
            "transfer-encoding" => return Err(broken("a transfer encoding")),
            "content-length" if !value.bytes().all(|byte| byte.is_ascii_digit()) => return Err(broken("a length")),
            // A length beside chunks means nothing; SSTP's is the largest there is.
            "content-length" if !matches!(self.body, Length::Chunked) => {
                self.body = Length::Bytes(value.parse().unwrap_or(usize::MAX));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The number in a status line.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_first_chunk::<3>()?;
    let is_status = digits.iter().all(u8::is_ascii_digit) && rest.first().is_none_or(|byte| *byte == b' ');
    let text = std::str::from_utf8(digits).ok().filter(|_| is_status)?;
    text.parse().ok()
}

fn too_much(what: &str) -> Failure {
    Failure::new(Reason::Protocol, format!("the {what} of the answer is longer than a VPN server's is"))
}

fn broken(what: &str) -> Failure {
    Failure::new(Reason::Protocol, format!("the answer is not HTTP: {what} breaks the rules"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of an answer that arrives whole: its status, type and body.
    async fn read(answer: &str) -> Result<(u16, String, String), Failure> {
        let mut reader = Reader::new(answer.as_bytes());
        let head = reader.head().await?;
        let body = reader.body(&head).await?;
        Ok((head.status, head.content_type, String::from_utf8(body).unwrap()))
    }

    #[tokio::test]
    async fn bodies_of_every_length_are_read() {
        let good = |status, kind: &str, body: &str| Ok((status, kind.to_owned(), body.to_owned()));
        assert_eq!(read("HTTP/1.1 200\r\n\r\nall").await, good(200, "", "all"));
        assert_eq!(
            read("HTTP/1.0 404 No\nContent-Type: Text/XML ; a=b\ncontent-length: 2\n\nabc").await,
            good(404, "text/xml", "ab")
        );
        let chunks = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\nab\r\n01\r\nc\r\n0\r\n\r\n";
        assert_eq!(read(chunks).await, good(200, "", "abc"));
    }

    #[tokio::test]
    async fn broken_answers_are_told() {
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(20_000));
        let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(70_000));
        for (bad, reason) in [
            ("HTTP/1.1 2000 OK\r\n\r\n", Reason::Protocol),
            ("HTTP/2 200 OK\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 +20 OK\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", Reason::Protocol),
            (long.as_str(), Reason::Protocol),
            (large.as_str(), Reason::Protocol),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Reason::Closed),
            ("HTTP/1.1 200 OK\r\nContent-Le", Reason::Closed),
        ] {
            assert_eq!(read(bad).await.unwrap_err().reason, reason, "{:?}", &bad[..bad.len().min(80)]);
        }
    }
}
