//! The machine, as far as the system describes it: for the report, and for logs.

use std::fs;
use std::thread;

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The CPU's model name, or its architecture where the system does not tell.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of data cache at levels 1 to 3; 0 where there is no third level.
    pub caches: [usize; 3],
    /// Whether the system told the sizes of the caches; otherwise they are assumed.
    pub caches_known: bool,
    /// Bytes of memory available, if the system tells.
    pub memory: Option<usize>,
}

/// A small CPU's, for systems that do not tell: a guess, used only to pick a limit by size.
const ASSUMED_CACHES: [usize; 3] = [32 << 10, 512 << 10, 8 << 20];

impl Machine {
    /// Asks the system.
    pub fn detect() -> Self {
        let caches = caches();
        Machine {
            cpu: cpu(),
            cores: cores(),
            caches: caches.unwrap_or(ASSUMED_CACHES),
            caches_known: caches.is_some(),
            memory: memory(),
        }
    }
}

/// The CPU's model name, or its architecture where the system does not tell.
pub fn cpu() -> String {
    let model = || {
        let info = fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|l| l.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    model().unwrap_or_else(|| format!("a CPU of unknown model ({})", std::env::consts::ARCH))
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

/// The sizes of core 0's caches, from sysfs; `None` unless it tells those of levels 1 and 2.
fn caches() -> Option<[usize; 3]> {
    let mut sizes = [0; 3];
    for index in 0..8 {
        let read = |file: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            fs::read_to_string(path).map(|s| s.trim().to_owned())
        };
        let (Ok(level), Ok(kind), Ok(size)) = (read("level"), read("type"), read("size")) else { continue };
        let (Ok(level @ 1..=3), false) = (level.parse::<usize>(), kind == "Instruction") else { continue };
        sizes[level - 1] = bytes(&size)?;
    }
    (sizes[0] > 0 && sizes[1] > 0).then_some(sizes)
}

/// `48K` and the like, as sysfs writes sizes.
fn bytes(size: &str) -> Option<usize> {
    let digits = size.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &size[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    Some(digits.parse::<usize>().ok()? * unit)
}

fn memory() -> Option<usize> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("MemAvailable:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_sysfs_writes_them() {
        assert_eq!(bytes("48K"), Some(48 << 10));
        assert_eq!(bytes("2M"), Some(2 << 20));
        assert_eq!(bytes("512"), Some(512));
        assert_eq!(bytes("K"), None);
        assert_eq!(bytes("3G?"), None);
    }
}
