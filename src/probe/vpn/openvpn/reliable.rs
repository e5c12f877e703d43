//! A stream of bytes over control packets: numbered, acknowledged, sent again, put in order (OpenVPN's `reliable.c`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::packet::{Body, Head, MAX_ACKS, Opcode, SessionId};
use crate::probe::vpn::metrics::Ignored;

/// How many packets may be on their way to the server: what the oldest servers have room for (`TLS_RELIABLE_N_REC_BUFFERS`).
const WINDOW: usize = 4;
/// How many acknowledgements a packet is filled up to with earlier ones (`CONTROL_SEND_ACK_MAX` in ssl.h).
const AGAIN: usize = 4;
/// How far ahead of the next one a packet may be that we keep.
const AHEAD: u32 = 12;
/// The longest wait before a packet is sent again.
const MAX_PATIENCE: Duration = Duration::from_secs(2);

/// One side of the stream, of the first packet after the resets on.
pub(super) struct Reliable {
    ours: SessionId,
    theirs: SessionId,
    next_out: u32,
    on_their_way: VecDeque<Outgoing>,
    next_in: u32,
    early: BTreeMap<u32, Vec<u8>>,
    owed: Vec<u32>,
    /// What was acknowledged last, newest first, and goes with every packet again: the packet that it went with may be lost, and a
    /// server that has kept nothing of our first packet believes only one that acknowledges its answer.
    told: Vec<u32>,
    patience: Duration,
}

struct Outgoing {
    id: u32,
    payload: Vec<u8>,
    due: Instant,
    patience: Duration,
}

impl Reliable {
    /// After the resets, of which the server's is not acknowledged yet. `patience` is how long to wait for the first
    /// acknowledgement.
    pub(super) fn new(ours: SessionId, theirs: SessionId, patience: Duration) -> Self {
        Self {
            ours,
            theirs,
            next_out: 1,
            on_their_way: VecDeque::new(),
            next_in: 1,
            early: BTreeMap::new(),
            owed: vec![0],
            told: Vec::new(),
            patience: patience.min(MAX_PATIENCE),
        }
    }

    /// Whether one more packet may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.on_their_way.len() < WINDOW
    }

    /// A new packet with these bytes.
    pub(super) fn push(&mut self, payload: Vec<u8>, now: Instant) -> Body {
        let id = self.next_out;
        self.next_out = self.next_out.wrapping_add(1);
        let body = self.body(Some(id), payload.clone());
        let patience = self.patience;
        self.on_their_way.push_back(Outgoing { id, payload, due: now + patience, patience });
        body
    }

    /// What is owed to the server, if anything is.
    pub(super) fn acknowledgement(&mut self) -> Option<Body> {
        (!self.owed.is_empty()).then(|| self.body(None, Vec::new()))
    }

    /// When the next packet is to be sent again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.on_their_way.iter().map(|packet| packet.due).min()
    }

    /// The packets that are to be sent again now.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Body> {
        let mut again = Vec::new();
        for packet in self.on_their_way.iter_mut().filter(|packet| packet.due <= now) {
            packet.patience = (packet.patience * 2).min(MAX_PATIENCE);
            packet.due = now + packet.patience;
            again.push((packet.id, packet.payload.clone()));
        }
        again.into_iter().map(|(id, payload)| self.body(Some(id), payload)).collect()
    }

    /// Takes a packet in: the bytes that are next, as far as they are there.
    ///
    /// # Errors
    /// Why it is not one for us.
    pub(super) fn receive(&mut self, head: Head, body: Body) -> Result<Vec<u8>, Ignored> {
        if head.session != self.theirs || !body.acks.is_empty() && body.peer != self.ours {
            return Err(Ignored::ForeignSession);
        }
        if !matches!(head.opcode, Opcode::Control | Opcode::Ack | Opcode::ServerReset) {
            return Err(Ignored::Malformed);
        }
        self.on_their_way.retain(|packet| !body.acks.contains(&packet.id));
        let Some(id) = body.id else { return Ok(Vec::new()) };
        if id >= self.next_in.saturating_add(AHEAD) {
            return Err(Ignored::Malformed);
        }
        if !self.owed.contains(&id) {
            self.owed.push(id);
        }
        if id < self.next_in || head.opcode != Opcode::Control {
            return Ok(Vec::new());
        }
        self.early.entry(id).or_insert(body.payload);
        let mut bytes = Vec::new();
        while let Some(next) = self.early.remove(&self.next_in) {
            bytes.extend(next);
            self.next_in = self.next_in.wrapping_add(1);
        }
        Ok(bytes)
    }

    fn body(&mut self, id: Option<u32>, payload: Vec<u8>) -> Body {
        let mut acks: Vec<u32> = self.owed.drain(..self.owed.len().min(MAX_ACKS)).collect();
        let again = self.told.iter().filter(|told| !acks.contains(told)).copied();
        let again: Vec<u32> = again.take(AGAIN.saturating_sub(acks.len())).collect();
        acks.extend(again);
        self.told.clone_from(&acks);
        Body { acks, peer: self.theirs, id, payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: SessionId = [1; 8];
    const THEIRS: SessionId = [2; 8];
    const SECOND: Duration = Duration::from_secs(1);

    fn server(opcode: Opcode) -> Head {
        Head { opcode, session: THEIRS }
    }

    fn control(id: u32, payload: &[u8]) -> Body {
        Body { id: Some(id), payload: payload.to_vec(), ..Body::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_in_disorder_and_twice_is_a_stream() {
        let mut side = Reliable::new(OURS, THEIRS, SECOND);
        let mut receive = |id, payload: &[u8]| side.receive(server(Opcode::Control), control(id, payload)).unwrap();
        assert_eq!(receive(2, b"b"), b"");
        assert_eq!(receive(3, b"c"), b"");
        assert_eq!(receive(2, b"x"), b"");
        assert_eq!(receive(1, b"a"), b"abc");
        assert_eq!(receive(1, b"a"), b"");
        // The server's reset, which comes first, is owed an acknowledgement from the beginning.
        let owed = side.acknowledgement().unwrap();
        assert_eq!((owed.acks, owed.peer, owed.id), (vec![0, 2, 3, 1], THEIRS, None));
        assert_eq!(side.acknowledgement(), None);
        // It comes again if our acknowledgement was lost, and so does a packet.
        assert_eq!(side.receive(server(Opcode::ServerReset), control(0, b"")), Ok(vec![]));
        assert_eq!(side.receive(server(Opcode::Control), control(2, b"b")), Ok(vec![]));
        assert_eq!(side.acknowledgement().unwrap().acks, [0, 2, 3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_acknowledged_is_sent_again() {
        let mut side = Reliable::new(OURS, THEIRS, SECOND);
        let start = Instant::now();
        assert_eq!(side.due(), None);
        let first = side.push(b"one".to_vec(), start);
        assert_eq!((first.acks, first.id), (vec![0], Some(1)));
        side.push(b"two".to_vec(), start);
        assert_eq!(side.due(), Some(start + SECOND));
        assert!(side.overdue(start).is_empty());
        let mut lost = Reliable::new(OURS, THEIRS, SECOND);
        let packet = lost.push(Vec::new(), start);
        assert_eq!(lost.overdue(start + SECOND), [packet], "with the same acknowledgement");
        let acks = Body { acks: vec![1], peer: OURS, ..Body::default() };
        side.receive(server(Opcode::Ack), acks).unwrap();
        let again = side.overdue(start + SECOND);
        assert_eq!(again.iter().map(|body| (body.id, &body.payload[..])).collect::<Vec<_>>(), [(Some(2), &b"two"[..])]);
        assert_eq!(side.due(), Some(start + 3 * SECOND), "twice as long");
        side.push(Vec::new(), start);
        side.push(Vec::new(), start);
        assert!(side.has_room());
        side.push(Vec::new(), start);
        assert!(!side.has_room());
    }

    #[tokio::test(start_paused = true)]
    async fn packets_of_others_change_nothing() {
        let mut side = Reliable::new(OURS, THEIRS, SECOND);
        side.push(Vec::new(), Instant::now());
        let acks = |peer| Body { acks: vec![1], peer, ..Body::default() };
        let foreign = Head { opcode: Opcode::Ack, session: [3; 8] };
        assert_eq!(side.receive(foreign, acks(OURS)), Err(Ignored::ForeignSession));
        assert_eq!(side.receive(server(Opcode::Ack), acks([3; 8])), Err(Ignored::ForeignSession));
        assert_eq!(side.receive(server(Opcode::ClientReset), control(1, b"")), Err(Ignored::Malformed));
        // Nor is there room for what is far ahead.
        assert_eq!(side.receive(server(Opcode::Control), control(13, b"x")), Err(Ignored::Malformed));
        assert_eq!(side.receive(server(Opcode::Control), control(12, b"x")), Ok(vec![]));
        assert!(side.due().is_some() && side.acknowledgement().is_some_and(|body| body.acks == [12, 0]));
    }
}
