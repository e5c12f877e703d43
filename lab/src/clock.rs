//! A wall clock that can be stepped for one process, by libfaketime. The monotonic clock stays what it is.
//!
//! libfaketime 0.9.10 fails `clock_nanosleep` until a time of the monotonic clock, which is how Python's `time.sleep` waits. Rust's
//! standard library and tokio wait otherwise.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::process::{Launch, Scratch, Server};
use crate::{Error, Result, binary};

/// The wall clock of the processes that are started with it.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
    started: Mutex<Vec<u32>>,
    _folder: Scratch,
}

impl Clock {
    /// A clock that is right.
    pub fn new() -> Result<Clock> {
        let folder = Scratch::new()?;
        let (library, file) = (binary::FAKETIME.find()?, folder.path().join("offset"));
        let clock = Clock { library, file, started: Mutex::default(), _folder: folder };
        clock.step(0)?;
        Ok(clock)
    }

    /// Starts a program with this clock. It should not outlive the clock.
    pub fn start(&self, launch: Launch) -> Result<Server> {
        let launch = self.environment().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        let server = launch.start()?;
        self.started(server.pid());
        Ok(server)
    }

    /// What a program must find in its environment to have this clock, for one that is started otherwise; see [`Clock::started`].
    pub fn environment(&self) -> [(&'static str, &OsStr); 4] {
        [
            ("LD_PRELOAD", self.library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.as_os_str()),
            ("FAKETIME_NO_CACHE", OsStr::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ]
    }

    /// Remembers a process that was started with this clock, to remove what it leaves behind.
    pub fn started(&self, pid: u32) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
    }

    /// Sets the clock to so many seconds after the right time, at once.
    pub fn step(&self, seconds: i64) -> Result<()> {
        // Whoever looks sees the old offset or the new one.
        let part = self.file.with_extension("part");
        let write = |path: &Path| fs::write(path, format!("{seconds:+}\n")).and_then(|()| fs::rename(path, &self.file));
        write(&part).map_err(Error::io(self.file.display().to_string()))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // A program that is killed leaves behind what libfaketime shares between processes.
        for pid in self.started.get_mut().unwrap_or_else(PoisonError::into_inner) {
            for name in ["sem.faketime_sem_", "faketime_shm_"] {
                // Absent if the program ended by itself.
                let _ = fs::remove_file(format!("/dev/shm/{name}{pid}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::until;

    #[tokio::test]
    async fn the_wall_clock_steps_and_the_monotonic_one_does_not() {
        const SCRIPT: &str = "
import select, time
while True:
    print(time.time(), time.monotonic(), flush=True)
    select.select([], [], [], 0.02)";
        let clock = Clock::new().unwrap();
        let folder = Scratch::new().unwrap();
        let log = folder.path().join("clocks");
        let python = Launch::new("python3", "/usr/bin/env").args(["python3", "-c", SCRIPT]).log(&log);
        let _python = clock.start(python).unwrap();
        // How far the wall clock is ahead of the monotonic one, by the last whole line.
        let last = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let line = text.rsplit_once('\n').map(|(lines, _)| lines.lines().last().unwrap_or_default().to_owned());
            let numbers: Vec<f64> = line?.split(' ').map(|word| word.parse().unwrap()).collect();
            Some(numbers[0] - numbers[1])
        };
        let patience = Duration::from_secs(20);
        let before = until("the clocks", patience, async || last().ok_or_else(|| "nothing".to_owned())).await.unwrap();
        clock.step(3600).unwrap();
        until("an hour's step", patience, async || match last().map_or(0.0, |now| now - before) {
            step if (step - 3600.0).abs() < 5.0 => Ok(()),
            step => Err(format!("{step} s")),
        })
        .await
        .unwrap();
    }
}
