//! A question over UDP: sent until it is answered, and only what answers the last one sent is believed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::budget::Rule;
use super::knock::Knock;
use super::metrics::{self, Ignored};
use crate::probe::net::{Clock, Datagrams};
use crate::probe::{Failure, Reason};

/// What a packet that arrived is.
pub(super) enum Judged<T> {
    /// The answer to the last packet sent.
    Answer(T),
    /// Not an answer; we go on waiting.
    Not(Ignored),
    /// An answer that says it will not work.
    Failed(Failure),
}

/// A question's answer.
pub(super) struct Answered<T> {
    pub(super) answer: T,
    /// From the last packet sent to the answer.
    pub(super) round_trip: Duration,
    /// Whose time it is.
    pub(super) clock: Clock,
}

/// A protocol's side of a question.
pub(super) trait Question {
    type Answer;
    /// The packet of a new attempt. It must differ from those before, so that their answers can be told from its own.
    fn packet(&mut self) -> Result<Vec<u8>, Failure>;
    /// What a packet that arrived is.
    fn judge(&mut self, packet: &[u8]) -> Judged<Self::Answer>;
}

/// Asks up to `knock.attempts` times, with an equal share of the time left for each, within the budget.
///
/// # Errors
/// `timeout` if nothing is taken for an answer, `rate_limited` before the first packet, what the kernel says of the peer,
/// and what `judge` says.
pub(super) async fn ask<Q: Question>(
    knock: &Knock<'_>,
    socket: &Datagrams,
    rule: Rule,
    question: &mut Q,
) -> Result<Answered<Q::Answer>, Failure> {
    let mut heard = false;
    for attempt in 0..knock.attempts {
        match knock.permit(rule).await {
            Err(failure) if attempt == 0 => return Err(failure),
            Err(_) => break,
            Ok(()) => {}
        }
        if attempt > 0 {
            knock.retried();
        }
        let patience = knock.time_left() / (knock.attempts - attempt);
        let deadline = Instant::now() + patience;
        let sent = socket.send(&question.packet()?).await?;
        match timeout_at(deadline, wait(knock, socket, question, &mut heard)).await {
            Ok(Ok((answer, received))) => {
                knock.sent(metrics::HANDSHAKE, true);
                let (round_trip, clock) = socket.round_trip(&sent, &received);
                knock.timed(clock);
                return Ok(Answered { answer, round_trip, clock });
            }
            Ok(Err(failure)) => {
                knock.sent(metrics::HANDSHAKE, false);
                return Err(failure);
            }
            Err(_) => knock.sent(metrics::HANDSHAKE, false),
        }
    }
    let words = match heard {
        false => format!("no answer from {} to {} packets", knock.address, knock.attempts),
        true => format!("packets came from {}, but none that answers ours", knock.address),
    };
    Err(Failure::new(Reason::Timeout, words))
}

async fn wait<Q: Question>(
    knock: &Knock<'_>,
    socket: &Datagrams,
    question: &mut Q,
    heard: &mut bool,
) -> Result<(Q::Answer, crate::probe::net::Received), Failure> {
    let mut buffer = vec![0; 65_535];
    loop {
        let received = socket.receive(&mut buffer).await?;
        match question.judge(buffer.get(..received.length).unwrap_or_default()) {
            Judged::Answer(answer) => return Ok((answer, received)),
            Judged::Failed(failure) => return Err(failure),
            Judged::Not(why) => {
                *heard = true;
                knock.ignored(why);
            }
        }
    }
}
