//! One owner per store.

use super::error::ServerError;
use super::run::STOP_TIMEOUT;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Longer than a server may take to stop, which it is given when its owner was asked to end or was killed.
const PATIENCE: Duration = STOP_TIMEOUT.saturating_add(Duration::from_secs(2));
const POLL: Duration = Duration::from_millis(50);

/// The lock on a store. The server child inherits it, so that it holds as long as any of the two lives: the
/// store of an owner that was killed is free only when its server is gone as well.
pub(super) struct StoreLock {
    file: File,
}

impl StoreLock {
    pub(super) async fn take(store_dir: &Path) -> Result<Self, ServerError> {
        let path = store_dir.join("lock");
        let io = |error: &std::io::Error| ServerError::io("lock file", &path, error);
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = opened.map_err(|error| io(&error))?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(io(&error)),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                    let mut owner = String::new();
                    file.read_to_string(&mut owner).map_err(|error| io(&error))?;
                    let (store_dir, owner) = (store_dir.to_owned(), owner.trim().to_owned());
                    return Err(ServerError::StoreInUse { store_dir, owner });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| io(&error))?;
        Ok(Self { file })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
