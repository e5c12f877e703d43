//! `midwatch backup`: wraps a backup's command, and lists what is known of backups.
//!
//! The wrapper is nothing but a bystander: the command is started before anything else is done, and inherits everything.
//! `child` starts, measures and imitates it, `teller` tells of it on a thread of its own, `place` is where.

mod child;
mod list;
mod place;
mod size;
mod teller;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

pub use list::list;

use self::child::{Ended, How, Relay, Running};
use self::place::Wanted;
use self::teller::{Over, Teller};
use super::Error;
use crate::cli::Wrap;
use crate::config::is_probe_name;
use crate::probe::backup::is_node;
use crate::probe::backup::told::{Told, What};

/// Runs the command and tells of it. Returns how this process is to end, unless it ends in the same way right here: by a signal.
///
/// # Errors
/// The command line is wrong; the command was not run then.
pub fn wrap(arguments: Wrap) -> Result<ExitCode, Error> {
    check(&arguments)?;
    let Wrap { name, config, url, node, size_of, token_file, spool, command } = arguments;
    let wanted = Wanted { job: name, config, url, token_file, spool, node };
    let rid = rid();
    let relay = Relay::start().map_err(|error| tracing::warn!("signals are not handed on to the command: {error}"));
    let relay = relay.unwrap_or_default();
    let started = now();
    let began = Told { rid, what: What::Start, started: Some(started), ..Told::default() };
    let (ended, teller) = match Running::start(&command, &relay) {
        Ok(running) => {
            let teller = Teller::start(wanted.clone(), began.clone(), Some(Arc::clone(&relay)));
            (running.wait(), teller)
        }
        Err(ended) => {
            tracing::error!("{}", ended.how.words());
            (ended, Teller::start(wanted.clone(), began.clone(), None))
        }
    };
    let told = end(began, &ended);
    let size_of = if matches!(ended.how, How::Ended(_)) { size_of } else { Vec::new() };
    match teller.or_else(|_| Teller::start(wanted, told.clone(), None)) {
        Ok(teller) => teller.finish(Over { told, size_of }),
        Err(error) => tracing::error!("nobody knows of this run: there can be no thread: {error}"),
    }
    Ok(ended.how.imitate())
}

fn check(arguments: &Wrap) -> Result<(), Error> {
    if !is_probe_name(&arguments.name) {
        let words = "a job's name consists of 1 to 64 ASCII letters, digits, `_`, `-` and `.`";
        return Err(Error::Usage(words.to_owned()));
    }
    if let Some(node) = &arguments.node {
        is_node(node).map_err(|why| Error::Usage(format!("--node {why}")))?;
    }
    Ok(())
}

/// The message about the end of a run, from the one about its beginning.
fn end(began: Told, ended: &Ended) -> Told {
    let duration = ended.took.as_secs_f64();
    let started = began.started.unwrap_or_default();
    // By the wall clock, unless that was set back meanwhile.
    let at = Some(now()).filter(|at| *at >= started).unwrap_or(started + duration);
    Told {
        what: if ended.how.is_success() { What::Success } else { What::Failure },
        ended: Some(at),
        duration: Some(duration),
        cpu_seconds: ended.cpu_seconds,
        peak_memory: ended.peak_memory,
        note: ended.how.words(),
        ..began
    }
}

/// Tells this run from all others: a random UUID (RFC 9562, section 5.4).
fn rid() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // A system without random numbers: unique on this machine is all that it can be.
        let unique = now().to_bits() ^ (u64::from(std::process::id()) << 32);
        bytes[8..].copy_from_slice(&unique.to_be_bytes());
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The wall clock, in unix seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_apart_by_a_uuid() {
        let (one, two) = (rid(), rid());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
        assert!(["8", "9", "a", "b"].contains(&&one[19..20]), "{one}");
        assert!([8, 13, 18, 23].iter().all(|at| &one[*at..=*at] == "-"), "{one}");
    }
}
