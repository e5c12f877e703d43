//! A fake broker, for what a real one does not do when it is asked to: stay silent, answer nonsense, close connections.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, decode_request_header_from_buffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::api::Api;
use crate::settings::HostPort;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) client: String,
    pub(crate) body: Bytes,
}

impl Asked {
    /// The request itself.
    pub(crate) fn body<M: Decodable>(&self) -> M {
        M::decode(&mut self.body.clone(), self.version).unwrap()
    }

    /// Its answer.
    pub(crate) fn answer<M: Encodable + HeaderVersion>(&self, message: &M) -> Reply {
        self.answer_to(self.correlation, message)
    }

    /// The answer with another correlation id.
    pub(crate) fn answer_to<M: Encodable + HeaderVersion>(&self, correlation: i32, message: &M) -> Reply {
        let header = ResponseHeader::default().with_correlation_id(correlation);
        let mut out = BytesMut::from(&[0; 4][..]);
        header.encode(&mut out, M::header_version(self.version)).unwrap();
        message.encode(&mut out, self.version).unwrap();
        let length = i32::try_from(out.len() - 4).unwrap();
        out[..4].copy_from_slice(&length.to_be_bytes());
        Reply::Bytes(out.freeze())
    }

    /// The answer to ApiVersions of a broker that speaks these; nothing to other requests.
    pub(crate) fn versions(&self, apis: impl IntoIterator<Item = (Api, RangeInclusive<i16>)>) -> Reply {
        let api = |(api, range): (Api, RangeInclusive<i16>)| {
            ApiVersion::default()
                .with_api_key(api.key())
                .with_min_version(*range.start())
                .with_max_version(*range.end())
        };
        self.answer(&ApiVersionsResponse::default().with_api_keys(apis.into_iter().map(api).collect()))
    }
}

/// What the fake does with a request.
pub(crate) enum Reply {
    /// Sends these bytes.
    Bytes(Bytes),
    /// Nothing.
    Silence,
    /// Sends these bytes and closes the connection.
    Close(Bytes),
}

/// A broker that is none. Dropping it closes all of its connections.
pub(crate) struct Fake {
    pub(crate) address: HostPort,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// One that answers ApiVersions with all that we speak, and other requests as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(None, move |asked| match asked.api {
            Api::ApiVersions => asked.versions(Api::ALL.iter().map(|api| (*api, api.versions()))),
            _ => answer(asked),
        })
        .await
    }

    /// One that answers every request as `answer` says, over TLS if there is an acceptor.
    pub(crate) async fn with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = HostPort { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let (asked, connections) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(AtomicUsize::new(0)));
        let (log, count) = (Arc::clone(&asked), Arc::clone(&connections));
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (log, answer, tls) = (Arc::clone(&log), Arc::clone(&answer), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => serve(stream, &log, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, connections, task: task.abort_handle() }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often that was asked.
    pub(crate) fn count(&self, api: Api) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.api == api).count()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) {
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(length).unwrap_or(0)];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let mut body = Bytes::from(frame);
        let header: RequestHeader = decode_request_header_from_buffer(&mut body).unwrap();
        let asked = Asked {
            api: *Api::ALL.iter().find(|api| api.key() == header.request_api_key).unwrap(),
            version: header.request_api_version,
            correlation: header.correlation_id,
            client: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
            body,
        };
        let reply = answer(&asked);
        log.lock().unwrap().push(asked);
        match reply {
            Reply::Bytes(bytes) => drop(stream.write_all(&bytes).await),
            Reply::Silence => {}
            Reply::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
        }
    }
}
