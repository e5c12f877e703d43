//! What a process or a thread has used, as the kernel counts it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Outcome;

/// CPU time of this thread so far: unlike a clock on the wall it does not count what others do to this machine.
pub fn thread_time() -> Duration {
    time(ClockId::ThreadCPUTime)
}

/// CPU time of this process so far.
pub fn process_time() -> Duration {
    time(ClockId::ProcessCPUTime)
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A line of /proc/self/status that is a number of kB, in bytes: `VmRSS`, `RssAnon`, `VmHWM`.
pub fn status(name: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in status")?;
    Ok(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>()? * 1024.0)
}

/// Has `VmHWM`, the most that was ever resident, start afresh from what is resident now.
pub fn reset_peak() -> Outcome<()> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}

/// Allows this process as many open files as it may have; says how many those are.
pub fn raise_open_files() -> Outcome<u64> {
    Ok(rlimit::increase_nofile_limit(rlimit::INFINITY)?)
}
