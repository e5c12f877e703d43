//! A way from this machine's loopback to servers in a network namespace, so that one midwatch reaches them and all others.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use lab::vpn::{Namespace, connect_within};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// Loopback, at a port that the kernel picks.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A relay to one port of a namespace. Ends when dropped.
pub struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// Hands packets on, and the answers back to whoever sent the last one.
    pub async fn udp(namespace: &Namespace, to: SocketAddr) -> Self {
        let far = namespace.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let near = UdpSocket::bind(ANY).await.unwrap();
        let address = near.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut out, mut back) = ([0; 2048], [0; 2048]);
            let mut client = None;
            loop {
                // What cannot be delivered is lost, as on any way.
                tokio::select! {
                    Ok((size, from)) = near.recv_from(&mut out) => {
                        client = Some(from);
                        let _ = far.send_to(&out[..size], to).await;
                    }
                    Ok((size, _)) = far.recv_from(&mut back) => {
                        if let Some(client) = client {
                            let _ = near.send_to(&back[..size], client).await;
                        }
                    }
                    else => {}
                }
            }
        });
        Self { address, task }
    }

    /// Hands connections on; one that the server does not accept is closed.
    pub async fn tcp(namespace: &Namespace, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap();
        let path = namespace.path().to_owned();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(relay(near, path.clone(), to));
            }
        });
        Self { address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut near: TcpStream, namespace: PathBuf, to: SocketAddr) {
    if let Ok(mut far) = connect_within(&namespace, to).await {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}
