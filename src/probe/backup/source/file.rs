//! Files that others write, on file systems that may hang.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::probe::{Failure, Reason};

/// The bytes of a regular file of at most `most` bytes. Never waits for a writer, as a pipe would.
///
/// # Errors
/// It cannot be read, is no regular file, or is larger.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it is larger than {} KiB", most >> 10)));
    }
    Ok(bytes)
}

/// What one reader at a time works on, beside the runtime. A file system whose server is gone holds whoever asks it, and nobody can
/// end that: one thread that hangs is enough.
#[derive(Default)]
pub struct Alone<T>(Arc<Mutex<T>>);

impl<T: Send + 'static> Alone<T> {
    /// Has `work` done on a thread that may block. If nobody waits for it any more, it goes on there.
    ///
    /// # Errors
    /// What `work` says; `timeout`, and nothing is done, while an earlier one is still at work.
    pub async fn work<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let Ok(mut on) = Arc::clone(&self.0).try_lock_owned() else {
            return Err(Failure::new(Reason::Timeout, "the reading before this one has not come back yet"));
        };
        let done = tokio::task::spawn_blocking(move || work(&mut on)).await;
        done.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_that_hangs_is_all_that_hangs() {
        let alone = Alone::<u32>::default();
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let hangs = alone.work(move |count| {
            *count += 1;
            let _ = begun.send(());
            let _ = held.recv();
            Ok(())
        });
        tokio::select! {
            _ = hangs => panic!("it came back"),
            // Nobody waits for it any more, and it goes on.
            begun = begins => begun.unwrap(),
        }
        for _ in 0..3 {
            assert_eq!(alone.work(|_| Ok(())).await.unwrap_err().reason, Reason::Timeout);
        }
        drop(release);
        let count = async {
            loop {
                match alone.work(|count| Ok(*count)).await {
                    Ok(count) => return count,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), count).await.unwrap(), 1);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(read(&pipe, 9).unwrap_err().to_string().contains("not a regular file"));
        std::fs::write(folder.path().join("file"), "0123456789").unwrap();
        assert_eq!(read(&folder.path().join("file"), 10).unwrap(), b"0123456789");
        assert!(read(&folder.path().join("file"), 9).is_err());
    }
}
