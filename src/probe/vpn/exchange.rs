//! A question over UDP: sent until it is answered, and only what answers the last one sent is believed.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::budget::Rule;
use super::knock::Knock;
use super::metrics::{self, Ignored};
use crate::probe::net::{Datagrams, Received};
use crate::probe::{Failure, Reason};

/// What a packet that arrived is.
pub(super) enum Judged<T> {
    /// The answer to the last packet sent.
    Answer(T),
    /// Not an answer; we go on waiting.
    Not(Ignored),
    /// The peer is there, but wants another packet than this one: with its cookie, with another group. That is sent at once.
    Again,
    /// An answer that says it will not work.
    Failed(Failure),
}

/// How often a peer may want another packet before it is said to be overloaded: for a cookie, for a group, and for a cookie
/// that has become too old.
const MOST_AGAIN: u32 = 3;
/// Between a packet and the next one at least: wireguard-go drops what arrives within 20 ms.
const GAP: Duration = Duration::from_millis(25);
/// How long we go on listening after an answer that says no. Those have no proof of who sent them, and one that is forged
/// must not hide the true one, which is on its way.
const DOUBT: Duration = Duration::from_millis(200);

/// A question's answer.
pub(super) struct Answered<T> {
    pub(super) answer: T,
    /// From the last packet sent to the answer.
    pub(super) round_trip: Duration,
}

/// A protocol's side of a question.
pub(super) trait Question {
    type Answer;
    /// The packet of a new attempt, or the one that the peer wants instead. It must differ from those before, so that their
    /// answers can be told from its own, but for what the protocol wants to be the same.
    fn packet(&mut self) -> Result<Vec<u8>, Failure>;
    /// Whether the last packet was the same as the one before, as the protocol may demand. An answer may then be to either, so
    /// that the round trip is counted from the first of them: rather too long than too short.
    fn is_repeated(&self) -> bool {
        false
    }
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
    let (mut heard, mut attempt, mut again, mut first) = (false, 0, 0, None);
    while attempt < knock.attempts {
        match knock.permit(rule).await {
            Err(failure) if attempt + again == 0 => return Err(failure),
            Err(_) => break,
            Ok(()) => {}
        }
        let patience = (knock.time_left() / (knock.attempts - attempt)).max(GAP);
        let deadline = Instant::now() + patience;
        let packet = question.packet()?;
        let now = socket.send(&packet).await?;
        let sent = first.filter(|_| question.is_repeated()).unwrap_or(now);
        first = Some(sent);
        let outcome = wait(knock, socket, question, (&mut heard, deadline)).await;
        knock.sent(metrics::HANDSHAKE, !matches!(outcome, Outcome::Silence | Outcome::Network(_)));
        match outcome {
            Outcome::Answer(answer, received) => {
                let (round_trip, clock) = socket.round_trip(&sent, &received);
                knock.timed(clock);
                return Ok(Answered { answer, round_trip });
            }
            Outcome::Refusal(failure) | Outcome::Network(failure) => return Err(failure),
            Outcome::Again if again < MOST_AGAIN => {
                again += 1;
                sleep(GAP).await;
            }
            Outcome::Again => {
                let words = format!("{} keeps asking for another packet, as a server under load does", knock.address);
                return Err(Failure::new(Reason::Overload, words));
            }
            Outcome::Silence => {
                attempt += 1;
                if attempt < knock.attempts {
                    knock.retried();
                }
            }
        }
    }
    let words = match heard {
        false => format!("no answer from {} to {} packets", knock.address, attempt + again),
        true => format!("packets came from {}, but none that answers ours", knock.address),
    };
    Err(Failure::new(Reason::Timeout, words))
}

/// What became of a packet.
enum Outcome<T> {
    Answer(T, Received),
    /// An answer that says no, and no other one after it.
    Refusal(Failure),
    /// The peer wants another packet.
    Again,
    /// What the network said of the peer.
    Network(Failure),
    Silence,
}

async fn wait<Q: Question>(
    knock: &Knock<'_>,
    socket: &Datagrams,
    question: &mut Q,
    (heard, mut deadline): (&mut bool, Instant),
) -> Outcome<Q::Answer> {
    let (mut buffer, mut refusal) = (vec![0; 65_535], None);
    loop {
        let received = match timeout_at(deadline, socket.receive(&mut buffer)).await {
            Ok(Ok(received)) => received,
            Ok(Err(failure)) => return refusal.map_or(Outcome::Network(failure), Outcome::Refusal),
            Err(_) => return refusal.map_or(Outcome::Silence, Outcome::Refusal),
        };
        match question.judge(buffer.get(..received.length).unwrap_or_default()) {
            Judged::Answer(answer) => return Outcome::Answer(answer, received),
            Judged::Again => return Outcome::Again,
            Judged::Failed(failure) if refusal.is_none() => {
                refusal = Some(failure);
                deadline = deadline.min(Instant::now() + DOUBT);
            }
            Judged::Failed(_) => knock.ignored(Ignored::Late),
            Judged::Not(why) => {
                *heard = true;
                knock.ignored(why);
            }
        }
    }
}
