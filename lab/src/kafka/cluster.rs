//! A cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::Metadata;
use rdkafka::producer::FutureProducer;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};

use super::broker::{Broker, Ports};
use super::java::Java;
use super::options::Options;
use super::properties;
use crate::process::{Scratch, Server};
use crate::{Error, Result, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// For one answer of a broker to the lab.
const REQUEST: Duration = Duration::from_secs(5);
/// Any 16 bytes in base64.
const CLUSTER_ID: &str = "bWlkd2F0Y2gtbGFiLTAwMQ";

/// A running cluster. Brokers are given by their id, which is 1 for the first one; an id that does not exist panics.
pub struct Cluster {
    // Clients first, then servers, then their data.
    pub(super) admin: Arc<AdminClient<DefaultClientContext>>,
    pub(super) producer: FutureProducer,
    brokers: Vec<Arc<Broker>>,
    java: Arc<Java>,
    folder: Scratch,
}

impl Cluster {
    /// Starts a cluster of so many brokers, without authentication and TLS.
    pub async fn start(brokers: usize) -> Result<Cluster> {
        Cluster::with(Options::default().brokers(brokers)).await
    }

    /// Starts a cluster. When this returns all brokers know and answer each other.
    pub async fn with(options: Options) -> Result<Cluster> {
        let folder = Scratch::new()?;
        let java = Arc::new(Java::find(options.version)?);
        let ports = (0..options.brokers).map(|index| Ports::pick(options.ports.get(index).copied()));
        let ports = ports.collect::<Result<Vec<Ports>>>()?;
        let texts: Vec<String> =
            (0..ports.len()).map(|index| properties::of(index, &ports, &options, folder.path())).collect();
        let mut brokers = Vec::new();
        for ((id, ports), text) in (1..).zip(ports).zip(&texts) {
            let launch = java.server(format!("broker {id}"));
            brokers.push(Arc::new(Broker::prepare(id, ports, folder.path(), text, launch)?));
        }
        // Both may take a second of a CPU: each broker starts as soon as its own folder is formatted.
        let mut tasks = JoinSet::new();
        for broker in brokers.iter().cloned() {
            let java = java.clone();
            tasks.spawn(async move {
                let file = broker.properties().display().to_string();
                java.run("kafka.tools.StorageTool", &["format", "-t", CLUSTER_ID, "-c", &file]).await?;
                broker.start()
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.map_err(|error| Error::Unexpected(error.to_string()))??;
        }
        let internal: Vec<String> = brokers.iter().map(|broker| broker.ports().internal.address()).collect();
        let config = config(&internal.join(","));
        let cluster = Cluster { admin: Arc::new(config.create()?), producer: config.create()?, brokers, java, folder };
        cluster.wait_up().await?;
        Ok(cluster)
    }

    /// `127.0.0.1:port` of every broker's listener for clients, with commas between.
    pub fn bootstrap(&self) -> String {
        self.addresses().join(",")
    }

    /// `127.0.0.1:port` of every broker's listener for clients, in the order of their ids.
    pub fn addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.ports().client.address()).collect()
    }

    /// `127.0.0.1:port` of the listener for clients. It listens on all addresses, so that 127.0.1.7 reaches it too.
    pub fn address(&self, broker: i32) -> String {
        self.broker(broker).ports().client.address()
    }

    /// The ids of the brokers.
    pub fn ids(&self) -> Vec<i32> {
        self.brokers.iter().map(|broker| broker.id()).collect()
    }

    /// The process id of a broker.
    pub fn pid(&self, broker: i32) -> Result<u32> {
        self.broker(broker).with_server(|server| Ok(server.pid()))
    }

    /// What a broker printed: warnings and errors.
    pub fn log(&self, broker: i32) -> &Path {
        self.broker(broker).log()
    }

    /// The folder with data, logs and certificates.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills a broker (SIGKILL). It is gone when this returns.
    pub fn kill(&self, broker: i32) {
        self.broker(broker).kill();
    }

    /// Stops a broker (SIGSTOP): its connections stay open and nothing answers.
    pub fn freeze(&self, broker: i32) -> Result<()> {
        self.broker(broker).freeze()
    }

    /// Lets a stopped broker go on.
    pub fn thaw(&self, broker: i32) -> Result<()> {
        self.broker(broker).thaw()
    }

    /// Starts a broker again, killing it if it runs, with the same ports and data. Returns when it answers; it may not yet have
    /// caught up, for that see [`Cluster::wait_settled`].
    pub async fn restart(&self, broker: i32) -> Result<()> {
        self.broker(broker).start()?;
        self.wait_up().await
    }

    /// Confines every thread of a broker to one CPU.
    pub fn pin(&self, broker: i32, cpu: usize) -> Result<()> {
        self.broker(broker).with_server(|server| Server::pin(server, cpu))
    }

    /// Waits until every broker that was neither killed nor frozen answers and is known to the others, and nobody else is.
    pub async fn wait_up(&self) -> Result<()> {
        until("all brokers to be up", PATIENCE, async || {
            for broker in self.brokers.iter().filter(|broker| broker.is_up()) {
                // A broker that cannot start says why in its log: better than waiting for it.
                if let Err(error) = broker.with_server(Server::check_alive) {
                    return Ok(Err(error));
                }
                let connected = TcpStream::connect(broker.ports().internal.address()).await;
                connected.map_err(|error| format!("{}: {error}", broker.name()))?;
            }
            let metadata = self.metadata().await.map_err(|error| error.to_string())?;
            self.check_known(&metadata).map(Ok)
        })
        .await?
    }

    /// Waits as [`Cluster::wait_up`] does, and until every replica of every partition is in sync.
    pub async fn wait_settled(&self) -> Result<()> {
        self.wait_up().await?;
        until("all replicas to be in sync", PATIENCE, async || {
            let metadata = self.metadata().await.map_err(|error| error.to_string())?;
            self.check_known(&metadata)?;
            check_in_sync(&metadata)
        })
        .await
    }

    /// Runs one of Kafka's own tools by the name of its class, with `--bootstrap-server` and these arguments. Takes a second or two.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let bootstrap = self.internal();
        let mut all = vec!["--bootstrap-server", bootstrap.as_str()];
        all.extend(arguments);
        self.java.run(class, &all).await
    }

    /// What brokers say of themselves and of all topics.
    pub(super) async fn metadata(&self) -> Result<Metadata> {
        let admin = self.admin.clone();
        blocking(move || Ok(admin.inner().fetch_metadata(None, REQUEST)?)).await
    }

    /// The configuration of a client that the lab uses itself.
    pub(super) fn config(&self) -> ClientConfig {
        config(&self.internal())
    }

    fn internal(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(|broker| broker.ports().internal.address()).collect();
        addresses.join(",")
    }

    fn broker(&self, id: i32) -> &Broker {
        let broker = self.brokers.iter().find(|broker| broker.id() == id);
        broker.unwrap_or_else(|| panic!("there is no broker {id}"))
    }

    fn check_known(&self, metadata: &Metadata) -> Result<(), String> {
        let mut expected: Vec<i32> = self.brokers.iter().filter(|b| b.is_up()).map(|broker| broker.id()).collect();
        let mut known: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        expected.sort_unstable();
        known.sort_unstable();
        if known == expected { Ok(()) } else { Err(format!("brokers {known:?} are known, {expected:?} are up")) }
    }
}

fn check_in_sync(metadata: &Metadata) -> Result<(), String> {
    for topic in metadata.topics() {
        for partition in topic.partitions() {
            let (replicas, in_sync) = (partition.replicas().len(), partition.isr().len());
            if partition.leader() < 0 || in_sync < replicas {
                let id = partition.id();
                return Err(format!("{}-{id}: {in_sync} of {replicas} replicas in sync", topic.name()));
            }
        }
    }
    Ok(())
}

/// A client that notices quickly that brokers came and went.
fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("client.id", "lab");
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
    config.set("topic.metadata.refresh.interval.ms", "1000").set("socket.timeout.ms", "10000");
    config
}

/// Calls librdkafka where it may block.
pub(super) async fn blocking<T: Send + 'static>(action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(action).await.map_err(|error| Error::Unexpected(error.to_string()))?
}
