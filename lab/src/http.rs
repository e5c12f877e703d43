//! One GET over plain HTTP, for asking the lab's servers and midwatch.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Error, Result};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Gets `path` from `address` (`host:port`), in at most ten seconds. HTTP/1.0, so that the body simply ends with the connection.
pub async fn get(address: &str, path: &str) -> Result<Answer> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let what = || format!("GET http://{address}{path}");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let late = |_| Error::Late { what: what(), seconds: PATIENCE.as_secs(), last: "no end of the answer".to_owned() };
    let answer = timeout(PATIENCE, exchange).await.map_err(late)?.map_err(Error::io(what()))?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| Error::Unexpected(format!("{}: not an HTTP answer", what())))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

/// Writes a text so that it can be part of a query string.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer =
            parse("HTTP/1.0 422 Unprocessable Entity\r\nContent-Type: text/plain\r\n\r\nline 3: no\r\n\r\n").unwrap();
        assert_eq!(answer, Answer { status: 422, body: "line 3: no\r\n\r\n".to_owned() });
        assert_eq!(parse("SSH-2.0-OpenSSH\r\n\r\n"), None);
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("rate(a_total[1m]) > 0.5 + ä"), "rate%28a_total%5B1m%5D%29%20%3E%200.5%20%2B%20%C3%A4");
    }
}
