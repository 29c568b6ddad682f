//! What memory a trainer has, by kind, and what the process has over time.

use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a trainer's buffers, by kind. Trainers allocate before their first steps and keep it: what they have is
/// their peak, too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Parameters, with what else the model consists of, and copies in the kernels' form.
    pub parameters: f64,
    /// Gradients of parameters.
    pub gradients: f64,
    /// The optimizer's moments.
    pub optimizer: f64,
    /// What the forward pass keeps for the backward pass.
    pub activations: f64,
    /// Other buffers of a step.
    pub scratch: f64,
    /// Data, and batches of them.
    pub data: f64,
}

impl Memory {
    /// Each kind's name and bytes.
    pub fn kinds(&self) -> [(&'static str, f64); 6] {
        [
            ("parameters", self.parameters),
            ("gradients", self.gradients),
            ("optimizer state", self.optimizer),
            ("activations", self.activations),
            ("scratch", self.scratch),
            ("data", self.data),
        ]
    }

    /// Bytes of all kinds.
    pub fn total(&self) -> f64 {
        self.kinds().iter().map(|kind| kind.1).sum()
    }
}

/// The bytes of a slice's values.
pub fn bytes<T>(values: &[T]) -> f64 {
    size_of_val(values) as f64
}

/// Bytes of this process that are in memory, and the most that ever were; `None` where the system does not tell.
pub fn resident() -> Option<[f64; 2]> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some([1024.0 * field("VmRSS:")?, 1024.0 * field("VmHWM:")?])
}

/// From sample to sample at first: the read takes some tens of microseconds of another thread, and at times its core.
const PERIOD: Duration = Duration::from_millis(20);
/// With more samples than this, every other one is dropped, and the period doubles.
const MOST_SAMPLES: usize = 2000;

/// A thread that samples the process' memory.
#[derive(Debug)]
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Vec<(f64, f64)>>,
}

impl Sampler {
    /// Starts it; `None` where the system does not tell, or has no thread.
    pub fn start() -> Option<Sampler> {
        resident()?;
        let (stop, stopped) = channel();
        let started = Instant::now();
        let sample = move || resident().map(|[now, _]| (started.elapsed().as_secs_f64(), now));
        let run = move || {
            let mut samples: Vec<(f64, f64)> = sample().into_iter().collect();
            let mut period = PERIOD;
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                samples.extend(sample());
                if samples.len() > MOST_SAMPLES {
                    let mut keep = false;
                    samples.retain(|_| {
                        keep = !keep;
                        keep
                    });
                    period *= 2;
                }
            }
            samples.extend(sample());
            samples
        };
        let thread = std::thread::Builder::new().name("profile: memory".into()).spawn(run).ok()?;
        Some(Sampler { stop, thread })
    }

    /// Stops it: seconds from its start, and bytes.
    pub fn finish(self) -> Vec<(f64, f64)> {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_seen() {
        let Some(sampler) = Sampler::start() else {
            assert_ne!(std::env::consts::OS, "linux");
            return;
        };
        let large = vec![1u8; 64 << 20];
        let [now, most] = resident().unwrap();
        assert!(now >= bytes(&large) && most >= now, "{now} {most}");
        std::thread::sleep(Duration::from_millis(10));
        let samples = sampler.finish();
        assert!(samples.len() >= 2 && samples.is_sorted_by(|a, b| a.0 <= b.0), "{samples:?}");
        let (first, last) = (samples[0].1, samples[samples.len() - 1].1);
        // Other tests allocate and free beside this one.
        assert!(last > first.min(bytes(&large)), "{samples:?}");
        drop(large);
    }

    #[test]
    fn kinds_add_up() {
        let memory = Memory {
            parameters: 1.0,
            gradients: 2.0,
            optimizer: 4.0,
            activations: 8.0,
            scratch: 16.0,
            data: 32.0,
        };
        assert_eq!(memory.total(), 63.0);
        assert_eq!(memory.kinds()[3], ("activations", 8.0));
    }
}
