//! Child processes that a test waits for, but not for ever: at its limit a child is killed, and the test fails with its
//! command line. A test that fails takes its child with it.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::io::Read;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Far more than any child needs in an unoptimised build on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(300);
/// From asking a child to end (mpirun then ends its ranks) to killing it.
const GRACE: Duration = Duration::from_secs(5);

pub struct Limited {
    child: Arc<Mutex<Child>>,
    command: String,
    timed_out: Arc<AtomicBool>,
    limit: Duration,
    /// Dropped, it ends the watchdog.
    _watched: Sender<()>,
}

impl Limited {
    pub fn spawn(command: &mut Command) -> Limited {
        Limited::spawn_for(command, LIMIT)
    }

    pub fn spawn_for(command: &mut Command, limit: Duration) -> Limited {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (child, timed_out) = (Arc::new(Mutex::new(child)), Arc::new(AtomicBool::new(false)));
        let (watched, done) = mpsc::channel::<()>();
        let (watched_child, told) = (Arc::clone(&child), Arc::clone(&timed_out));
        let said = format!("killed after {} s: {command:?}", limit.as_secs_f32());
        thread::spawn(move || {
            for (wait, how) in [(limit, terminate as fn(&mut Child)), (GRACE, kill)] {
                if done.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                // Whoever reads the child's output sees only that it ends.
                if !told.swap(true, Ordering::Relaxed) {
                    eprintln!("{said}");
                }
                how(&mut watched_child.lock().unwrap());
            }
        });
        Limited { child, command: format!("{command:?}"), timed_out, limit, _watched: watched }
    }

    pub fn stdout(&self) -> ChildStdout {
        self.child.lock().unwrap().stdout.take().expect("piped, and taken once")
    }

    pub fn stderr(&self) -> ChildStderr {
        self.child.lock().unwrap().stderr.take().expect("piped, and taken once")
    }

    /// Sends a signal, such as `-INT`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.lock().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// # Panics
    /// If the child had to be killed at its limit.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        loop {
            // The lock is released between looks: the watchdog needs it.
            let ended = self.child.lock().unwrap().try_wait().unwrap();
            if let Some(status) = ended {
                let in_time = !self.timed_out.load(Ordering::Relaxed);
                assert!(in_time, "killed after {} s: {}", self.limit.as_secs_f32(), self.command);
                return status;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        kill(&mut child);
        let _ = child.wait();
    }
}

/// Like [`Command::output`], within [`LIMIT`].
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = Limited::spawn(command);
    let (mut out, mut err) = (child.stdout(), child.stderr());
    let reader = thread::spawn(move || {
        let mut stderr = Vec::new();
        err.read_to_end(&mut stderr).map(|_| stderr)
    });
    let mut stdout = Vec::new();
    out.read_to_end(&mut stdout).unwrap();
    let stderr = reader.join().unwrap().unwrap();
    Output { status: child.wait(), stdout, stderr }
}

fn terminate(child: &mut Child) {
    // A child that has been waited for has given its number back.
    if cfg!(unix) && matches!(child.try_wait(), Ok(None)) {
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    } else {
        kill(child);
    }
}

fn kill(child: &mut Child) {
    // It may have ended.
    let _ = child.kill();
}
