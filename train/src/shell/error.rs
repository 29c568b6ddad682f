//! Why a command about a run fails, and with which exit code.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use super::lock::LockError;
use super::settings::SettingError;
use crate::store::checkpoint::CheckpointError;
use crate::store::log::LogError;

/// Why a run cannot begin, continue, or be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Other usage that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The data.
    #[error(transparent)]
    Data(Box<dyn StdError + Send + Sync>),
    /// The numbers are not finite any more. Nothing was saved since the last checkpoint.
    #[error("{0}")]
    Diverged(String),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The directory is locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// A new run where there is something of another.
    #[error("{} holds a run: --resume {} continues it, another --out starts anew (found {file})", directory.display(), directory.display())]
    Occupied {
        /// The directory.
        directory: PathBuf,
        /// The file by which that is known.
        file: String,
    },
    /// The data are not those of the run.
    #[error("the data ({name}) have the hash {have}: the run in {} was made with {want}", directory.display())]
    OtherData {
        /// Where the run lies.
        directory: PathBuf,
        /// What the data are called.
        name: String,
        /// Their hash.
        have: String,
        /// What the run says.
        want: String,
    },
    /// A run of another trainer.
    #[error("{}: a run of {have}: this command expects one of {want}", directory.display())]
    OtherKind {
        /// Where the run lies.
        directory: PathBuf,
        /// Its trainer.
        have: String,
        /// The trainer that was expected.
        want: &'static str,
    },
    /// The processes do not do the same.
    #[error("rank {0} has other settings, data or checkpoint than rank 0: all must be given the same")]
    Ranks(usize),
}

impl Error {
    /// An error of data.
    pub fn data(source: impl StdError + Send + Sync + 'static) -> Self {
        Error::Data(Box::new(source))
    }

    /// An error of a file.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Error::Io { path: path.to_owned(), source }
    }

    /// 2 if the command makes no sense, 1 if it failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Setting(_) | Error::Usage(_) | Error::Occupied { .. } | Error::OtherKind { .. } => 2,
            _ => 1,
        }
    }
}
