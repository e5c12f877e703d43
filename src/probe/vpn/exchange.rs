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
/// Between a packet and the next one at least: wireguard-go drops what follows faster.
const GAP: Duration = Duration::from_millis(20);

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
        match timeout_at(deadline, wait(knock, socket, question, &mut heard)).await {
            Ok(Ok(Some((answer, received)))) => {
                knock.sent(metrics::HANDSHAKE, true);
                let answer = answer?;
                let (round_trip, clock) = socket.round_trip(&sent, &received);
                knock.timed(clock);
                return Ok(Answered { answer, round_trip });
            }
            Ok(Ok(None)) => {
                knock.sent(metrics::HANDSHAKE, true);
                again += 1;
                if again > MOST_AGAIN {
                    let words =
                        format!("{} keeps asking for another packet, as a server under load does", knock.address);
                    return Err(Failure::new(Reason::Overload, words));
                }
                sleep(GAP).await;
                continue;
            }
            Ok(Err(failure)) => {
                knock.sent(metrics::HANDSHAKE, false);
                return Err(failure);
            }
            Err(_) => knock.sent(metrics::HANDSHAKE, false),
        }
        attempt += 1;
        if attempt < knock.attempts {
            knock.retried();
        }
    }
    let words = match heard {
        false => format!("no answer from {} to {} packets", knock.address, knock.attempts),
        true => format!("packets came from {}, but none that answers ours", knock.address),
    };
    Err(Failure::new(Reason::Timeout, words))
}

/// Waits for the answer; `None` is that the peer wants another packet.
async fn wait<Q: Question>(
    knock: &Knock<'_>,
    socket: &Datagrams,
    question: &mut Q,
    heard: &mut bool,
) -> Result<Option<(Result<Q::Answer, Failure>, Received)>, Failure> {
    let mut buffer = vec![0; 65_535];
    loop {
        let received = socket.receive(&mut buffer).await?;
        match question.judge(buffer.get(..received.length).unwrap_or_default()) {
            Judged::Answer(answer) => return Ok(Some((Ok(answer), received))),
            Judged::Again => return Ok(None),
            Judged::Failed(failure) => return Ok(Some((Err(failure), received))),
            Judged::Not(why) => {
                *heard = true;
                knock.ignored(why);
            }
        }
    }
}
