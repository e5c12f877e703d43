//! Clients of the endpoint, good ones and others. All of them end when they are dropped.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Outcome;

/// Longer than any scrape takes here.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a body is coded for the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// As Prometheus asks for.
    Gzip,
    /// As others may.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Gzip, Self::Zstd];

    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A scrape that was read to its end.
#[derive(Clone, Copy, Debug)]
pub struct Scraped {
    /// From the connection to the last byte.
    pub took: Duration,
    /// On the wire, header included.
    pub bytes: usize,
}

/// Scrapes as fast as the bytes come.
pub async fn scrape(address: SocketAddr, coding: Coding) -> Outcome<Scraped> {
    Ok(timeout(PATIENCE, scrape_at_pace(address, coding, None)).await??)
}

/// The same; `None` if it was refused or cut off.
pub async fn try_scrape(address: SocketAddr, coding: Coding) -> Outcome<Option<Scraped>> {
    Ok(timeout(PATIENCE, scrape_at_pace(address, coding, None)).await?.ok())
}

/// Scrapes and pauses after each 64 KiB or less.
async fn scrape_at_pace(address: SocketAddr, coding: Coding, pause: Option<Duration>) -> std::io::Result<Scraped> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request(coding).as_bytes()).await?;
    let (mut buffer, mut bytes, mut end) = (vec![0; 64 * 1024], 0, [0; 5]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        if bytes == 0 && !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other("the scrape was refused"));
        }
        bytes += read;
        let last: Vec<u8> = end.iter().chain(&buffer[..read]).copied().skip(read).collect();
        end.copy_from_slice(&last);
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
    // The last chunk. Without it the response was cut off.
    if end != *b"0\r\n\r\n" {
        return Err(std::io::Error::other("the scrape was cut off"));
    }
    Ok(Scraped { took: started.elapsed(), bytes })
}

fn request(coding: Coding) -> String {
    format!(
        "GET /metrics HTTP/1.1\r\nHost: midwatch\r\nAccept-Encoding: {}\r\nConnection: close\r\n\r\n",
        coding.name()
    )
}

/// So many scrapes by clients that pause after each 64 KiB.
pub fn slow_scrapes(address: SocketAddr, coding: Coding, clients: usize, pause: Duration) -> JoinSet<()> {
    each(clients, move |_| async move {
        let _ = scrape_at_pace(address, coding, Some(pause)).await;
    })
}

/// What somebody does who means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// 50 clients that send their headers byte by byte.
    SlowHeaders,
    /// 50 clients that ask for everything and read next to nothing.
    SlowReaders,
    /// The same, and who is cut off or refused comes again at once.
    Obstinate,
    /// 10 000 connections on which nothing happens.
    Idle,
    /// Headers of a megabyte, eight at a time, over and over.
    LargeHeaders,
}

impl Attack {
    /// All of them, with what they are.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::SlowHeaders, "50 clients that send a byte of their header every 100 ms"),
        (Self::SlowReaders, "50 clients that read 1 KiB of the whole text every 100 ms"),
        (Self::Obstinate, "the same, who come again 100 ms after they are cut off or refused"),
        (Self::Idle, "10 000 idle connections, opened during it"),
        (Self::LargeHeaders, "8 clients that send headers of 1 MB, 100 ms apart"),
    ];

    /// Begins it. It ends when the result is dropped.
    pub fn begin(self, address: SocketAddr) -> JoinSet<()> {
        let again = Duration::from_millis(100);
        match self {
            Self::SlowHeaders => each(50, move |_| async move {
                loop {
                    let _ = slow_header(address).await;
                    sleep(again).await;
                }
            }),
            Self::SlowReaders => each(50, move |_| async move {
                let _ = slow_reader(address).await;
            }),
            Self::Obstinate => each(50, move |_| async move {
                loop {
                    let _ = slow_reader(address).await;
                    sleep(again).await;
                }
            }),
            Self::Idle => each(10, move |_| async move {
                let mut open = Vec::new();
                while open.len() < 1_000 {
                    match TcpStream::connect(address).await {
                        Ok(stream) => open.push(stream),
                        Err(_) => sleep(again).await,
                    }
                }
                std::future::pending::<()>().await;
                drop(open);
            }),
            Self::LargeHeaders => each(8, move |_| async move {
                loop {
                    let _ = large_header(address).await;
                    sleep(again).await;
                }
            }),
        }
    }
}

fn each<F: Future<Output = ()> + Send + 'static>(clients: usize, client: impl Fn(usize) -> F) -> JoinSet<()> {
    (0..clients).map(client).collect()
}

async fn slow_header(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut header = request(Coding::Identity);
    header.insert_str(header.len() - 2, &"X-Slow: yes\r\n".repeat(100));
    for byte in header.as_bytes() {
        stream.write_all(&[*byte]).await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn slow_reader(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request(Coding::Identity).as_bytes()).await?;
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn large_header(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut header = request(Coding::Identity);
    header.insert_str(header.len() - 2, &format!("X-Large: {}\r\n", "x".repeat(1_000_000)));
    // It is refused before it is sent whole.
    let _ = stream.write_all(header.as_bytes()).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map(drop)
}
