//! The memory that this process may use, so that a model too large is refused before anything is allocated. Without
//! this the system would kill the run in the middle of its first step.

use std::fs;
use std::path::{Path, PathBuf};

use super::settings::SettingError;

/// Checks that `need` bytes are there, where the system says how many there are. `what` needs them, and `name` =
/// `value` is the setting to change.
///
/// # Errors
/// Names the setting and both amounts.
pub fn check(name: &'static str, value: usize, what: &str, need: f64) -> Result<(), SettingError> {
    within(name, value, what, need, available())
}

fn within(
    name: &'static str,
    value: usize,
    what: &str,
    need: f64,
    have: Option<f64>,
) -> Result<(), SettingError> {
    match have {
        Some(have) if need > have => {
            let [need, have] = [need, have].map(gigabytes);
            let rule = format!("this {what} would need about {need} GB, and the machine has {have}");
            Err(SettingError::new(name, value, rule))
        }
        _ => Ok(()),
    }
}

fn gigabytes(bytes: f64) -> String {
    let size = bytes / 1e9;
    if size < 1e6 { format!("{size:.1}") } else { format!("{size:.1e}") }
}

/// Bytes that this process may use: the least of the machine's memory, its container's limit and its own limit. `None`
/// where the system tells none of them.
///
/// The machine's whole memory counts, not what is free at the moment: what others use now says little about a run of
/// hours, and caches are given up when memory is asked for. The limit is for what can never fit.
pub fn available() -> Option<f64> {
    limit(Path::new("/"))
}

/// The same, for a system whose files lie under `root`.
fn limit(root: &Path) -> Option<f64> {
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let machine = kibibytes(&read("proc/meminfo"), "MemTotal:");
    let limits = read("proc/self/limits");
    let own = ["Max address space", "Max data size"].map(|name| soft_limit(&limits, name));
    let group = container(root, &read("proc/self/cgroup"));
    [machine, group].into_iter().chain(own).flatten().reduce(f64::min)
}

/// A line of /proc/meminfo.
fn kibibytes(text: &str, name: &str) -> Option<f64> {
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()? as f64 * 1024.0)
}

/// A line of /proc/self/limits: name, soft limit, hard limit, unit.
fn soft_limit(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    bytes(line.split_whitespace().next()?)
}

/// A number of bytes; none for "max" and "unlimited".
fn bytes(text: &str) -> Option<f64> {
    Some(text.trim().parse::<u64>().ok()? as f64)
}

/// The least limit on the way from the process' control group to the root: a group has at most what those around it
/// have. In a container the path may be the host's, which is not mounted; its own group is then the root.
fn container(root: &Path, groups: &str) -> Option<f64> {
    let limits = groups.lines().filter_map(|line| {
        // Number, controllers, path. Version 2 has number 0 and no controllers.
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (mount, file) = match controllers {
            "" if number == "0" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let path: PathBuf = Path::new(path).components().skip(1).collect();
        let group = |part: &Path| bytes(&fs::read_to_string(root.join(mount).join(part).join(file)).ok()?);
        path.ancestors().filter_map(group).reduce(f64::min)
    });
    limits.reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> Option<f64> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        limit(root.path())
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       24618220 kB\nMemFree:        13887096 kB\nMemAvailable:   22214600 kB\n",
    );
    const MACHINE: f64 = 24_618_220.0 * 1024.0;

    #[test]
    fn the_machine_counts_where_there_is_no_limit() {
        assert_eq!(system(&[]), None);
        assert_eq!(system(&[MEMINFO]), Some(MACHINE));
        assert_eq!(system(&[("proc/meminfo", "MemTotal: much kB\n")]), None);
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            (
                "proc/self/limits",
                "Max address space         unlimited            unlimited            bytes\n",
            ),
        ];
        assert_eq!(system(&unlimited), Some(MACHINE));
    }

    #[test]
    fn the_least_limit_of_a_version_2_group_counts() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let limits = [("sys/fs/cgroup/a/b/memory.max", "9000\n"), ("sys/fs/cgroup/a/memory.max", "5000\n")];
        assert_eq!(system(&[MEMINFO, group, limits[0], limits[1]]), Some(5000.0));
        assert_eq!(system(&[MEMINFO, group, limits[0]]), Some(9000.0));
        // As in a container that sees the host's path, or its own group as the root.
        assert_eq!(system(&[MEMINFO, group, ("sys/fs/cgroup/memory.max", "7000\n")]), Some(7000.0));
        let own = ("proc/self/cgroup", "0::/\n");
        assert_eq!(system(&[MEMINFO, own, ("sys/fs/cgroup/memory.max", "6000\n")]), Some(6000.0));
    }

    #[test]
    fn the_limit_of_a_version_1_group_counts() {
        let group = ("proc/self/cgroup", "3:cpu,cpuacct:/x\n2:hugetlb,memory:/docker/c\n1:name=systemd:/y\n");
        let limit = |text| ("sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes", text);
        assert_eq!(system(&[MEMINFO, group, limit("4096\n")]), Some(4096.0));
        // "No limit" is a huge number there.
        assert_eq!(system(&[MEMINFO, group, limit("9223372036854771712\n")]), Some(MACHINE));
    }

    #[test]
    fn the_process_own_limit_counts() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max data size             unlimited            unlimited            bytes\n\
                      Max address space         4194304              unlimited            bytes\n";
        assert_eq!(system(&[MEMINFO, ("proc/self/limits", limits)]), Some(4_194_304.0));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_amounts() {
        let told = |need| within("batch", 64, "model", need, Some(8e9)).unwrap_err().to_string();
        assert_eq!(told(9.64e9), "batch = 64: this model would need about 9.6 GB, and the machine has 8.0");
        assert!(told(1e30).contains("about 1.0e21 GB"));
        assert_eq!(within("batch", 64, "model", 8e9, Some(8e9)), Ok(()));
        assert_eq!(within("batch", 64, "model", 1e30, None), Ok(()));
        if cfg!(target_os = "linux") {
            assert!(available().is_some_and(|bytes| bytes > 1e6));
        }
    }
}
