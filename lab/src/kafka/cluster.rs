//! A cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::{Metadata, MetadataBroker};
use rdkafka::producer::FutureProducer;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};

use super::access::{Files, Mechanism, Tls, User};
use super::broker::{Broker, Ports};
use super::java::Java;
use super::member::Protocol;
use super::options::{Options, Version};
use super::tools::Resource;
use super::{archive, properties};
use crate::process::{Scratch, Server};
use crate::{Error, Result, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// For one answer of a broker to the lab.
const REQUEST: Duration = Duration::from_secs(5);

/// A running cluster. Brokers are given by their id, which is 1 for the first one; an id that does not exist panics.
pub struct Cluster {
    // Clients first, then servers, then their data.
    pub(super) admin: Arc<AdminClient<DefaultClientContext>>,
    pub(super) producer: FutureProducer,
    brokers: Vec<Arc<Broker>>,
    java: Arc<Java>,
    options: Options,
    files: Files,
    folder: Scratch,
}

impl Cluster {
    /// Starts a cluster of so many brokers, without authentication and TLS.
    pub async fn start(brokers: usize) -> Result<Cluster> {
        Cluster::with(Options::default().brokers(brokers)).await
    }

    /// Starts a cluster. When this returns all brokers know and answer each other, and users have their rights.
    pub async fn with(options: Options) -> Result<Cluster> {
        let folder = Scratch::new()?;
        let files = Files::new(folder.path())?;
        let java = Arc::new(Java::find(options.version)?);
        archive::prepare(&java).await;
        let ports = (0..options.brokers).map(|index| Ports::pick(options.ports.get(index).copied()));
        let ports = ports.collect::<Result<Vec<Ports>>>()?;
        let texts: Vec<String> =
            (0..ports.len()).map(|index| properties::of(index, &ports, &options, &files, folder.path())).collect();
        let mut brokers = Vec::new();
        for ((id, ports), text) in (1..).zip(ports).zip(&texts) {
            let launch = java.server(format!("broker {id}"), 256);
            brokers.push(Arc::new(Broker::prepare(id, ports, folder.path(), text, launch)?));
        }
        let mut config = config(&internal(&brokers));
        let producer = config.create()?;
        // Otherwise a partition's end would be the last stable offset, where open transactions begin.
        let admin = Arc::new(config.set("isolation.level", "read_uncommitted").create()?);
        let cluster = Cluster { admin, producer, brokers, java, options, files, folder };
        cluster.format_and_start().await?;
        cluster.wait_up().await?;
        if cluster.options.access.authorizes() {
            cluster.grant().await?;
        }
        Ok(cluster)
    }

    /// Gives users the rights that they are described with.
    async fn grant(&self) -> Result<()> {
        let (midwatch, canary) = (User::midwatch(), User::canary());
        let all = [Resource::Cluster, Resource::Topic("*"), Resource::Group("*")];
        let own = [Resource::TopicPrefix("midwatch")];
        tokio::try_join!(
            self.allow(&midwatch.name, &["Describe"], &all),
            self.allow(&canary.name, &["Create", "Describe", "Read", "Write"], &own),
        )?;
        Ok(())
    }

    /// Both take seconds of a CPU: each broker starts as soon as its own folders are formatted.
    async fn format_and_start(&self) -> Result<()> {
        let mut tasks = JoinSet::new();
        for broker in &self.brokers {
            let (broker, java, access) = (broker.clone(), self.java.clone(), self.options.access);
            tasks.spawn(async move {
                java.format(broker.properties(), access).await?;
                broker.start()
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.map_err(|error| Error::Unexpected(error.to_string()))??;
        }
        Ok(())
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

    /// Certificates and keys.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Which Kafka this is.
    pub fn version(&self) -> Version {
        self.options.version
    }

    /// The folders that a broker takes for its two disks.
    pub fn log_dirs(&self, broker: i32) -> [String; 2] {
        properties::log_dirs(self.folder.path(), self.broker(broker).id())
    }

    /// The configuration of a librdkafka client of the listener for clients, with the lab's authority, a client certificate where one is
    /// needed, and a user if one is given. A token the client has to make itself.
    pub fn client(&self, user: Option<(&User, Mechanism)>) -> ClientConfig {
        let mut config = config(&self.bootstrap());
        config.set("security.protocol", self.options.access.protocol());
        if self.options.access.tls != Tls::Off {
            config.set("ssl.ca.location", self.files.ca.display().to_string());
        }
        if self.options.access.tls == Tls::Mutual {
            config.set("ssl.certificate.location", self.files.client.certificate.display().to_string());
            config.set("ssl.key.location", self.files.client.key.display().to_string());
        }
        if let Some((user, mechanism)) = user {
            config.set("sasl.mechanism", mechanism.name());
            config.set("sasl.username", &user.name).set("sasl.password", &user.password);
        }
        config
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
        self.wait("all brokers to be up", |_| Ok(())).await
    }

    /// Waits as [`Cluster::wait_up`] does, and until every replica of every partition is in sync.
    pub async fn wait_settled(&self) -> Result<()> {
        self.wait("all replicas to be in sync", check_in_sync).await
    }

    async fn wait(&self, what: &str, check: impl Fn(&Metadata) -> Result<(), String>) -> Result<()> {
        until(what, PATIENCE, async || {
            for broker in self.brokers.iter().filter(|broker| broker.is_up()) {
                // A broker that cannot go on says why in its log: better than waiting for it.
                if let Err(error) = broker.with_server(Server::check_alive) {
                    return Ok(Err(error));
                }
                let connected = TcpStream::connect(broker.ports().internal.address()).await;
                connected.map_err(|error| format!("{}: {error}", broker.name()))?;
            }
            let metadata = self.metadata().await.map_err(|error| error.to_string())?;
            self.check_known(&metadata)?;
            check(&metadata).map(Ok)
        })
        .await?
    }

    /// Runs one of Kafka's own tools by the name of its class, with `--bootstrap-server` and these arguments. Takes a second or two.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        // A tool may try a frozen broker first, and wait for it.
        let bootstrap = internal(self.brokers.iter().filter(|broker| broker.is_up()));
        let mut all = vec!["--bootstrap-server", bootstrap.as_str()];
        all.extend(arguments);
        self.java.run(class, &all).await
    }

    /// Joins a group with Kafka's own consumer, which prints what it reads nowhere and commits every five seconds. It takes a second
    /// or two to come up, and when dropped is killed, so that its group notices only when its session ends, six seconds later.
    pub fn join_java(&self, group: &str, topic: &str, protocol: Protocol) -> Result<Server> {
        let mut arguments = vec!["--bootstrap-server".to_owned(), internal(&self.brokers)];
        arguments.extend(["--group", group, "--topic", topic, "--from-beginning"].map(str::to_owned));
        let protocol = match protocol {
            Protocol::Classic => ["group.protocol=classic", "session.timeout.ms=6000"].as_slice(),
            Protocol::Consumer => ["group.protocol=consumer"].as_slice(),
        };
        for property in protocol {
            arguments.extend(["--consumer-property".to_owned(), (*property).to_owned()]);
        }
        let launch = self.java.server(format!("consumer of {group}"), 128);
        let log = self.folder.path().join(format!("{group}.log"));
        launch.arg("org.apache.kafka.tools.consumer.ConsoleConsumer").args(arguments).log(log).start()
    }

    /// What brokers say of themselves and of all topics.
    pub(super) async fn metadata(&self) -> Result<Metadata> {
        let admin = self.admin.clone();
        blocking(move || Ok(admin.inner().fetch_metadata(None, REQUEST)?)).await
    }

    /// The configuration of a client that the lab uses itself.
    pub(super) fn config(&self) -> ClientConfig {
        config(&internal(&self.brokers))
    }

    fn broker(&self, id: i32) -> &Broker {
        let broker = self.brokers.iter().find(|broker| broker.id() == id);
        broker.unwrap_or_else(|| panic!("there is no broker {id}"))
    }

    fn check_known(&self, metadata: &Metadata) -> Result<(), String> {
        let mut expected: Vec<i32> = self.brokers.iter().filter(|b| b.is_up()).map(|broker| broker.id()).collect();
        let mut known: Vec<i32> = metadata.brokers().iter().map(MetadataBroker::id).collect();
        expected.sort_unstable();
        known.sort_unstable();
        if known == expected { Ok(()) } else { Err(format!("brokers {known:?} are known, {expected:?} are up")) }
    }
}

/// `127.0.0.1:port` of the internal listeners.
fn internal<'a>(brokers: impl IntoIterator<Item = &'a Arc<Broker>>) -> String {
    let addresses: Vec<String> = brokers.into_iter().map(|broker| broker.ports().internal.address()).collect();
    addresses.join(",")
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
    config.set("message.timeout.ms", "60000");
    config
}

/// Calls librdkafka where it may block.
pub(super) async fn blocking<T: Send + 'static>(action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(action).await.map_err(|error| Error::Unexpected(error.to_string()))?
}
