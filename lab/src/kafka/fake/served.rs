//! The fake's sockets: frames in, frames out, one after the other on each connection, as brokers do it.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answers::Answers;
use super::{Noted, lock};

/// No request is longer: ten thousand partitions fit many times.
const LONGEST: usize = 16 << 20;

/// Serves until it is dropped.
pub(super) async fn serve_all(listeners: Vec<std::net::TcpListener>, cluster: Answers, log: Arc<Mutex<Vec<Noted>>>) {
    let cluster = Arc::new(Mutex::new(cluster));
    let mut brokers = JoinSet::new();
    for (broker, listener) in (1..).zip(listeners) {
        let (cluster, log) = (Arc::clone(&cluster), Arc::clone(&log));
        brokers.spawn(async move {
            let mut open = JoinSet::new();
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let (cluster, log) = (Arc::clone(&cluster), Arc::clone(&log));
                // How a connection ends is its client's affair.
                open.spawn(async move { serve(broker, stream, &cluster, &log).await.unwrap_or_default() });
                while open.try_join_next().is_some() {}
            }
        });
    }
    while brokers.join_next().await.is_some() {}
}

async fn serve(
    broker: i32,
    mut stream: TcpStream,
    cluster: &Mutex<Answers>,
    log: &Mutex<Vec<Noted>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = frame(&mut stream).await?;
        let length = request.len();
        let answered = lock(cluster).answer(broker, &request);
        let (question, things, response) =
            answered.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        lock(log).push(Noted { broker, question, things, bytes: (length, response.len()) });
        stream.write_all(&response).await?;
    }
}

async fn frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = BytesMut::zeroed(length);
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.freeze())
}
