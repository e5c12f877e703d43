//! A session: a producer and a consumer at work, on threads of their own. librdkafka calls back from whoever polls, and
//! some of its calls block, so nothing of it runs on the runtime's workers; nor does its end, which may take seconds.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::books::{Books, LiveSlot, Sent};
use super::clients::{self, Callbacks, Consumer, Producer};
use super::config::{Config, Manage};
use super::payload::Token;
use super::view::{State, View};
use super::{errors, topic};
use crate::probe::kafka::client::connect::Dialer;
use crate::probe::{Failure, Reason};

/// How long a poll waits before it looks whether the session is over.
const POLL: Duration = Duration::from_millis(100);
/// How often the cluster is asked who leads while all is well.
const REFRESH: Duration = Duration::from_secs(5);
/// How often the accounts are looked through, and the cluster is asked while something is amiss.
const TICK: Duration = Duration::from_secs(1);
/// The same until the consumer reads everything for the first time, but no longer than [`START`].
const START_TICK: Duration = Duration::from_millis(100);
/// How long a session is new.
const START: Duration = Duration::from_secs(5);
/// How long the canary leaves the topic alone after the controller refused to create it or to add to it.
const MANAGE_PAUSE: Duration = Duration::from_secs(30);
/// How long the cluster may take to answer.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// The producer, for as long as there is one. It is used only with the lock held, so that the session's own thread is the
/// last to let go of it.
type ProducerSlot = Arc<Mutex<Option<Arc<Producer>>>>;

/// A running session. Dropping it ends it, without waiting for that.
pub(super) struct Session {
    pub(super) books: Arc<Books>,
    producer: ProducerSlot,
    topic: String,
    token: Token,
    /// Dropped with the session, which wakes the supervisor.
    _alive: mpsc::Sender<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.books.close();
    }
}

impl Session {
    /// Starts one, within a runtime.
    ///
    /// # Errors
    /// `local` if this machine has no random numbers or no threads left.
    pub(super) fn start(config: &Arc<Config>, dialer: &Arc<Dialer>, live: &LiveSlot) -> Result<Self, Failure> {
        let local = |what: &str, error: String| Failure::new(Reason::Local, format!("{what}: {error}"));
        let token = Token::random().map_err(|error| local("random numbers", error.to_string()))?;
        let books = Arc::new(Books::new(config.sla, live));
        let producer = ProducerSlot::default();
        let (alive, ended) = mpsc::channel();
        let supervisor = Supervisor {
            config: Arc::clone(config),
            books: Arc::clone(&books),
            callbacks: Callbacks { books: Arc::clone(&books), dialer: Arc::clone(dialer), runtime: Handle::current() },
            producer: Arc::clone(&producer),
            token,
        };
        thread::Builder::new()
            .name("canary".to_owned())
            .spawn(move || supervisor.run(&ended))
            .map_err(|error| local("a thread for the canary", error.to_string()))?;
        Ok(Self { books, producer, topic: config.topic.clone(), token, _alive: alive })
    }

    /// What is known of the cluster and the session.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.books.state.subscribe()
    }

    /// Sends a record to a partition, in the name of the broker that leads it.
    ///
    /// # Errors
    /// What the producer refuses at once; the record is then accounted for.
    pub(super) fn send(&self, partition: i32, broker: i32) -> Result<Sent, Failure> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(producer) = &*producer else {
            return Err(Failure::new(Reason::Internal, "there is no producer"));
        };
        let sent = self.books.send(partition, broker);
        let bytes = self.token.write(sent.id.seq);
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(&self.topic, Box::new(sent.id));
        match producer.send(record.partition(partition).payload(&bytes)) {
            Ok(()) => Ok(sent),
            Err((error, _)) => {
                let failure = errors::failure("produce", &error);
                self.books.failed(sent.id, &failure);
                Err(failure)
            }
        }
    }
}

/// The thread that keeps the session going, and what it works with.
struct Supervisor {
    config: Arc<Config>,
    books: Arc<Books>,
    callbacks: Callbacks,
    producer: ProducerSlot,
    token: Token,
}

/// What the supervisor remembers from one look at the cluster to the next.
#[derive(Default)]
struct Course {
    /// The partitions that the consumer was told to read.
    assigned: BTreeSet<i32>,
    /// When the controller refused what the topic needs, and why.
    refused: Option<(Instant, Failure)>,
}

/// Ends the session when a thread of it ends, however it does.
struct Ending<'b>(&'b Books);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.state.send_modify(|state| state.over = true);
    }
}

impl Supervisor {
    fn run(self, ended: &Receiver<()>) {
        let _ending = Ending(&self.books);
        if let Err(failure) = self.serve(ended) {
            self.books.trouble(failure);
        }
        // The clients are gone by now, but for this one.
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn serve(&self, ended: &Receiver<()>) -> Result<(), Failure> {
        let broken = |error: KafkaError| errors::failure("start librdkafka", &error);
        let consumer = clients::consumer(&self.config, self.callbacks.clone()).map_err(broken)?;
        let producer = Arc::new(clients::producer(&self.config, self.callbacks.clone()).map_err(broken)?);
        *self.producer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&producer));
        thread::scope(|scope| {
            // Ends the two other threads if this one panics.
            let _ending = Ending(&self.books);
            let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
            let no_thread = |error: std::io::Error| Failure::new(Reason::Local, format!("a thread: {error}"));
            spawn("canary-produce").spawn_scoped(scope, || self.deliver(&producer)).map_err(no_thread)?;
            spawn("canary-consume").spawn_scoped(scope, || self.consume(&consumer)).map_err(no_thread)?;
            self.supervise(&consumer, &producer, ended);
            Ok(())
        })?;
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    /// Serves the producer's callbacks until the session is over.
    fn deliver(&self, producer: &Producer) {
        let _ending = Ending(&self.books);
        while !self.books.is_closed() {
            producer.poll(POLL);
        }
    }

    /// Reads records until the session is over.
    fn consume(&self, consumer: &Consumer) {
        let _ending = Ending(&self.books);
        while !self.books.is_closed() {
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let seq = message.payload().and_then(|payload| self.token.read(payload));
                    self.books.read(message.partition(), message.offset(), seq);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.books.state.send_if_modified(|state| state.reading.insert(partition));
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    self.books.trouble(errors::failure("consume", &KafkaError::MessageConsumption(code)));
                    return;
                }
                Some(Err(error)) => {
                    let misread = [Code::AutoOffsetReset, Code::LogTruncation, Code::OffsetOutOfRange];
                    if error.rdkafka_error_code().is_some_and(|code| misread.contains(&code)) {
                        self.books.state.send_modify(|state| state.misread = true);
                    }
                }
            }
        }
    }

    /// Asks the cluster who leads, and tells the consumer what to read, until the session is over.
    fn supervise(&self, consumer: &Consumer, producer: &Producer, ended: &Receiver<()>) {
        let mut course = Course::default();
        let mut refreshed = None::<Instant>;
        let (started, mut was_complete) = (Instant::now(), false);
        while !self.books.is_closed() {
            let state = self.books.state.borrow().clone();
            let is_well = state.is_complete() && state.problem.is_none() && !state.misread;
            was_complete |= is_well;
            if refreshed.is_none_or(|at| !is_well || at.elapsed() >= REFRESH) {
                refreshed = Some(Instant::now());
                if let Err(failure) = self.refresh(consumer, &mut course) {
                    self.books.trouble(failure);
                }
            }
            self.books.expire();
            if let Some((code, text)) = producer.client().fatal_error() {
                self.books.trouble(errors::event(code, &text));
                return;
            }
            let tick = if was_complete || started.elapsed() > START { TICK } else { START_TICK };
            if ended.recv_timeout(tick) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn refresh(&self, consumer: &Consumer, course: &mut Course) -> Result<(), Failure> {
        let failed = |error: KafkaError| errors::failure("ask who leads", &error);
        let metadata = consumer.fetch_metadata(Some(&self.config.topic), METADATA_TIMEOUT).map_err(failed)?;
        let (mut view, error) = View::read(&metadata, &self.config.topic);
        if self.config.manage == Manage::Create {
            self.manage(&mut view, error, &mut course.refused);
        }
        let assigned = &mut course.assigned;
        let mut misread = false;
        self.books.state.send_modify(|state| misread = std::mem::take(&mut state.misread));
        let there: BTreeSet<i32> = view.partitions.iter().map(|partition| partition.id).collect();
        let before = assigned.len();
        assigned.retain(|partition| !misread && there.contains(partition));
        let mut changed = assigned.len() != before;
        self.books.state.send_if_modified(|state| {
            let before = state.reading.len();
            state.reading.retain(|partition| assigned.contains(partition));
            state.reading.len() != before
        });
        for partition in view.partitions.iter().filter(|partition| partition.leader.is_some()) {
            if !assigned.contains(&partition.id) {
                changed |= self.begin(consumer, partition.id, assigned);
            }
        }
        if changed {
            self.assign(consumer, assigned)?;
        }
        let view = Arc::new(view);
        self.books.state.send_if_modified(|state| {
            let is_new = state.view.as_ref() != Some(&view) || state.problem.is_some();
            state.view = Some(view);
            state.problem = None;
            is_new
        });
        Ok(())
    }

    /// Creates the topic or adds to it. That it cannot is a problem only if there is no topic.
    fn manage(&self, view: &mut View, error: Option<Code>, refused: &mut Option<(Instant, Failure)>) {
        let is_missing = error == Some(Code::UnknownTopicOrPartition);
        if refused.as_ref().is_none_or(|(at, _)| at.elapsed() > MANAGE_PAUSE) && (is_missing || error.is_none()) {
            let act = if is_missing { topic::create } else { topic::extend };
            let failure = act(&self.config, self.callbacks.clone(), view).err();
            *refused = failure.map(|failure| (Instant::now(), failure));
        }
        if is_missing {
            let why = refused.as_ref().map(|(_, failure)| failure.clone());
            view.problem = Some(why.unwrap_or_else(|| topic::being_made(&self.config.topic)));
        }
    }

    /// Looks up where a partition ends, which is where the consumer is to begin. Whether it could.
    fn begin(&self, consumer: &Consumer, partition: i32, assigned: &mut BTreeSet<i32>) -> bool {
        match consumer.fetch_watermarks(&self.config.topic, partition, METADATA_TIMEOUT) {
            Ok((_, end)) => {
                self.books.begin(partition, end);
                assigned.insert(partition)
            }
            Err(error) => {
                self.books.trouble(errors::failure("ask where a partition ends", &error));
                false
            }
        }
    }

    /// Has the consumer read these partitions, each from where it is.
    fn assign(&self, consumer: &Consumer, assigned: &BTreeSet<i32>) -> Result<(), Failure> {
        let failed = |error: KafkaError| errors::failure("assign partitions", &error);
        let mut list = TopicPartitionList::with_capacity(assigned.len());
        for partition in assigned {
            let offset = Offset::Offset(self.books.position(*partition).unwrap_or(0));
            list.add_partition_offset(&self.config.topic, *partition, offset).map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)
    }
}
