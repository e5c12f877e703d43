//! Replies of every kind, from a peer that is a byte array.

use std::path::PathBuf;

use bson::{RawDocumentBuf, rawdoc};
use tokio::io::duplex;

use super::super::fuzz;
use super::super::hello::hello;
use super::*;

/// A message with a body of any bytes.
fn message(answered: i32, opcode: i32, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [(HEADER + 4 + body.len()) as i32, 77, answered, opcode, flags.cast_signed()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A section of kind 0.
fn section(document: &RawDocumentBuf) -> Vec<u8> {
    [&[0], document.as_bytes()].concat()
}

fn reply(document: &RawDocumentBuf) -> Vec<u8> {
    message(1, OP_MSG, 0, &section(document))
}

/// What a ping ends in when the peer answers with these bytes and closes.
async fn ping(answer: &[u8]) -> Result<RawDocumentBuf, Failure> {
    let (near, mut far) = duplex(64);
    let mut conn = Connection::new(near);
    let peer = async move {
        let mut request = [0; 64];
        let count = far.read(&mut request).await.unwrap();
        assert!(count > MIN_MESSAGE);
        let _ = far.write_all(answer).await;
    };
    let command = rawdoc! { "ping": 1, "$db": "admin" };
    let (result, ()) = tokio::join!(conn.command(&command), peer);
    result.map(ToOwned::to_owned)
}

#[tokio::test]
async fn a_reply_is_returned_whatever_the_type_of_ok() {
    for document in [rawdoc! { "ok": 1.0 }, rawdoc! { "ok": 1 }, rawdoc! { "ok": 1_i64 }, rawdoc! { "ok": true }] {
        assert_eq!(ping(&reply(&document)).await.unwrap(), document);
    }
    let checked = message(1, OP_MSG, flag::CHECKSUM_PRESENT, &[section(&rawdoc! { "ok": 1 }), vec![0; 4]].concat());
    ping(&checked).await.unwrap();
    let optional = message(1, OP_MSG, 1 << 16, &section(&rawdoc! { "ok": 1 }));
    ping(&optional).await.unwrap();
}

#[tokio::test]
async fn broken_replies_are_told() {
    let ok = section(&rawdoc! { "ok": 1 });
    let mut nested = rawdoc! {};
    for _ in 0..=MAX_DEPTH {
        nested = rawdoc! { "a": nested };
    }
    let mut lying = reply(&rawdoc! { "ok": 1 });
    lying[..4].copy_from_slice(&i32::MAX.to_le_bytes());
    let long = [reply(&rawdoc! { "ok": 1 }), vec![0; 9]].concat();
    for (answer, words) in [
        (message(2, OP_MSG, 0, &ok), "an answer to request 2 instead of 1"),
        (message(1, 1, 0, &ok), "opcode 1 (MongoDB before 3.6?)"),
        (message(1, 2012, 0, &ok), "opcode 2012"),
        (message(1, OP_MSG, 2, &ok), "the flags 0x2"),
        (message(1, OP_MSG, 4, &ok), "the flags 0x4"),
        (message(1, OP_MSG, 0, &[[1].as_slice(), &ok[1..]].concat()), "not a single document"),
        (message(1, OP_MSG, 0, &[ok.as_slice(), &ok].concat()), "broken BSON"),
        (message(1, OP_MSG, 0, &[0, 0, 0, 0, 0, 0]), "broken BSON"),
        (message(1, OP_MSG, 0, b"\0\x0c\0\0\0\x10ok\0\x01\0\0\0"), "broken BSON"),
        (reply(&nested), "nested too deeply"),
        (lying, "an impossible message length"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "is this MongoDB? It begins with \"HTTP/1.1"),
        (long, "bytes beyond the message"),
    ] {
        let failure = ping(&answer).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Protocol, "{failure}");
        assert!(failure.detail.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_told() {
    let whole = reply(&rawdoc! { "ok": 1 });
    for end in 0..whole.len() {
        let failure = ping(&whole[..end]).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Closed, "{failure}");
    }
    assert!(ping(b"").await.unwrap_err().detail.contains("does it require TLS"));
}

#[tokio::test]
async fn server_errors_have_their_reason() {
    for (code, reason) in [
        (18, Reason::Auth),
        (11, Reason::Auth),
        (13, Reason::Rejected),
        (59, Reason::Rejected),
        (10107, Reason::NotPrimary),
        (13436, Reason::NotPrimary),
        (91, Reason::Closed),
        (462, Reason::Overload),
        (262, Reason::Timeout),
    ] {
        let document = rawdoc! { "ok": 0.0, "code": code, "codeName": "Name", "errmsg": "it\nfailed" };
        let failure = ping(&reply(&document)).await.unwrap_err();
        assert_eq!(failure, Failure::new(reason, format!("ping failed with {code} Name: it failed")));
    }
    let hostile = rawdoc! { "ok": "yes", "code": "x", "errmsg": "x".repeat(100_000) };
    let failure = ping(&reply(&hostile)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Rejected);
    assert!(failure.detail.chars().count() <= 300);
}

#[tokio::test]
async fn a_cancelled_request_spoils_the_connection() {
    let (near, _far) = duplex(1024);
    let mut conn = Connection::new(near);
    let command = rawdoc! { "ping": 1, "$db": "admin" };
    let short = std::time::Duration::from_millis(1);
    assert!(tokio::time::timeout(short, conn.command(&command)).await.is_err());
    assert_eq!(conn.command(&command).await.unwrap_err().reason, Reason::Internal);
}

#[tokio::test]
async fn an_old_server_is_asked_by_the_old_name() {
    let (near, mut far) = duplex(4096);
    let mut conn = Connection::new(near);
    let peer = async move {
        let mut request = vec![0; 4096];
        let unknown = rawdoc! { "ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command" };
        for (id, answer) in [(1, unknown), (2, rawdoc! { "ismaster": true, "setName": "rs0", "ok": 1.0 })] {
            let count = far.read(&mut request).await.unwrap();
            let name: &[u8] = if id == 1 { b"hello" } else { b"isMaster" };
            assert!(request[..count].windows(name.len()).any(|window| window == name));
            far.write_all(&message(id, OP_MSG, 0, &section(&answer))).await.unwrap();
        }
    };
    let (result, ()) = tokio::join!(hello(&mut conn, None), peer);
    assert_eq!(result.unwrap().state.label(), "primary");
}

/// What the fuzz target runs, on every seed and thousands of mutations of it: no panic, and every failure has a reason.
#[test]
fn the_corpus_and_its_mutations_are_survived() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/op_msg");
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let seeds: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() >= 10, "the corpus is missing");
    let mut accepted = 0;
    for seed in &seeds {
        accepted += usize::from(survives(seed));
        for end in 0..seed.len().min(2_000) {
            survives(&seed[..end]);
            // The same with a header that agrees, so that the body is looked at.
            let mut short = seed[..end].to_vec();
            resize(&mut short);
            survives(&short);
        }
        for _ in 0..3_000 {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match (random.below(3), bytes.get_mut(at)) {
                    (0, Some(byte)) => *byte ^= 1 << random.below(8),
                    (1, Some(byte)) => *byte = [0, 1, 4, 5, 0x7f, 0x80, 0xff][random.below(7)],
                    _ => {
                        let other = &seeds[random.below(seeds.len())];
                        let from = random.below(other.len());
                        let to = from + random.below((other.len() - from).min(64));
                        let end = (at + random.below(16)).min(bytes.len());
                        bytes.splice(at.min(end)..end, other[from..to].iter().copied());
                    }
                }
            }
            if random.below(2) == 0 {
                resize(&mut bytes);
            }
            survives(&bytes);
        }
    }
    assert!(accepted >= 5, "only {accepted} seeds are valid replies");
}

/// Makes the header's length true.
fn resize(bytes: &mut [u8]) {
    let length = (bytes.len() as i32).to_le_bytes();
    if let Some(start) = bytes.first_chunk_mut() {
        *start = length;
    }
}

/// Whether the bytes are a reply that `hello` accepts.
fn survives(bytes: &[u8]) -> bool {
    match fuzz::op_msg(bytes) {
        Ok(hello) => {
            assert!(hello.hosts.iter().all(|host| host.bytes().all(|byte| byte.is_ascii_graphic())));
            true
        }
        Err(failure) => {
            assert_ne!(failure.reason, Reason::Internal, "{failure}");
            assert!(failure.detail.chars().count() <= 300);
            false
        }
    }
}

/// Marsaglia's generator: the same mutations at every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}
