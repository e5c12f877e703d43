//! What carries packets to the server: datagrams, or a TCP connection with a length in front of each packet.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::packet::Head;
use crate::probe::net::Datagrams;
use crate::probe::{Failure, Reason};

/// The longest packet over TCP that is waited for. Servers' control packets have at most some 1 500 bytes.
const MAX_PACKET: usize = 10_000;
/// The length in front of a packet, and the packet's first byte.
const BEGINNING: usize = 3;

/// The way to the server.
pub(super) enum Link {
    Udp(Datagrams, Vec<u8>),
    Tcp(Stream),
}

/// A connection, and what has arrived of its next packets.
pub(super) struct Stream {
    stream: TcpStream,
    arrived: BytesMut,
}

impl Link {
    /// Over datagrams.
    pub(super) fn udp(socket: Datagrams) -> Self {
        Self::Udp(socket, vec![0; 65_535])
    }

    /// Over a connection.
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self::Tcp(Stream { stream, arrived: BytesMut::new() })
    }

    /// Whether what is sent can get lost.
    pub(super) fn is_lossy(&self) -> bool {
        matches!(self, Self::Udp(..))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// What the kernel says of the peer.
    pub(super) async fn send(&mut self, packet: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Udp(socket, _) => socket.send(packet).await.map(|_| ()),
            Self::Tcp(tcp) => {
                let length = u16::try_from(packet.len())
                    .map_err(|_| Failure::new(Reason::Internal, "a packet is too long for TCP"))?;
                let whole = [&length.to_be_bytes()[..], packet].concat();
                tcp.stream.write_all(&whole).await.map_err(|error| Failure::io("send", &error))
            }
        }
    }

    /// Waits for a packet. What has arrived is not lost when the future is dropped.
    ///
    /// # Errors
    /// What the kernel says of the peer; `closed`; `protocol` if it is not OpenVPN that is spoken over the connection.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Udp(socket, buffer) => {
                let received = socket.receive(buffer).await?;
                Ok(buffer.get(..received.length).unwrap_or_default().to_vec())
            }
            Self::Tcp(tcp) => loop {
                if let Some(packet) = next_packet(&mut tcp.arrived)? {
                    return Ok(packet);
                }
                let length = tcp.stream.read_buf(&mut tcp.arrived).await;
                if length.map_err(|error| Failure::io("receive", &error))? == 0 {
                    return Err(Failure::new(Reason::Closed, "the server closed the connection"));
                }
            },
        }
    }
}

/// Takes the next packet, if it is there.
///
/// # Errors
/// `protocol` as soon as it cannot be a packet of the control channel.
pub(super) fn next_packet(arrived: &mut BytesMut) -> Result<Option<Vec<u8>>, Failure> {
    let Some([high, low, first]) = arrived.first_chunk::<BEGINNING>().copied() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // A head with any session tells whether the first byte can begin a packet.
    let mut head = [0; super::packet::HEAD_LENGTH];
    head.fill(first);
    if !(1..=MAX_PACKET).contains(&length) || Head::read(&head).is_none() {
        return Err(Failure::new(Reason::Protocol, "what listens there does not speak OpenVPN over TCP"));
    }
    if arrived.len() < 2 + length {
        return Ok(None);
    }
    arrived.advance(2);
    Ok(Some(arrived.split_to(length).to_vec()))
}
