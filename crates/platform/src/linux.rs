//! Linux tells about itself in text files under /proc and /sys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    // ARM kernels give numbers instead of a name.
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Sets of hardware threads that share a core.
pub(crate) fn n_cores() -> Option<usize> {
    let mut cores = BTreeSet::new();
    for entry in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        // Folders of other things have no such file.
        if let Ok(siblings) = fs::read_to_string(entry.path().join("topology/thread_siblings_list")) {
            cores.insert(siblings);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

pub(crate) fn total_memory_bytes() -> Option<u64> {
    let machine = field_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")?;
    Some(container_limits().iter().map(|limit| limit.max_bytes).fold(machine, u64::min))
}

pub(crate) fn available_memory_bytes() -> Option<u64> {
    let machine = field_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")?;
    Some(container_limits().iter().map(Limit::free_bytes).fold(machine, u64::min))
}

pub(crate) fn current_memory_bytes() -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    // The kernel notes a new high only now and then, so what is in use may be above it.
    Some(field_bytes(&status, "VmHWM")?.max(field_bytes(&status, "VmRSS")?))
}

pub(crate) fn n_page_faults() -> Option<u64> {
    minor_faults(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The tenth field of `/proc/self/stat`. The second is the program's name in parentheses, which may hold anything.
fn minor_faults(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(") ")?;
    from_third.split(' ').nth(7)?.parse().ok()
}

/// Ticks in which all cores together were busy, and all their ticks, since the start.
pub(crate) fn cpu_ticks() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen; guests are in user already.
    let ticks: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).take(8).map_while(|text| text.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (ticks.len() == 8).then_some((all - idle, all))
}

/// The number of a line such as `VmHWM:    5120 kB`.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let n_kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    n_kibibytes.checked_mul(1024)
}

/// What a control group may use and does use.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    max_bytes: u64,
    used_bytes: u64,
    /// Cached file contents in the used bytes, which the kernel drops before it refuses memory.
    cache_bytes: u64,
}

impl Limit {
    fn free_bytes(&self) -> u64 {
        self.max_bytes.saturating_sub(self.used_bytes.saturating_sub(self.cache_bytes))
    }
}

/// Limits of this process's control group and all groups around it.
fn container_limits() -> Vec<Limit> {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    group_folders(&groups).iter().filter_map(|folder| read_limit(folder)).collect()
}

/// Folders with memory files of the groups that `/proc/self/cgroup` lists, innermost first. Inside a container the
/// listed path may not exist, while the root is the container's own group.
fn group_folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // Version 2 has one hierarchy without controller names; version 1 one for memory.
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            names if names.split(',').any(|name| name == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let innermost = root.join(path.trim_start_matches('/'));
        folders.extend(
            innermost.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_path_buf),
        );
    }
    folders
}

fn read_limit(folder: &Path) -> Option<Limit> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // `max` stands for no limit and is no number.
    let max_bytes = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used_bytes = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = statistics.lines().find_map(|line| {
        line.strip_prefix("inactive_file ").or_else(|| line.strip_prefix("total_inactive_file "))
    });
    let cache_bytes = cache.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Some(Limit { max_bytes, used_bytes, cache_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text =
            "MemTotal:       24684084 kB\nMemFree:  5 kB\nMemAvailable:   100 kB\nHugePages_Total:       3\n";
        assert_eq!(field_bytes(text, "MemTotal"), Some(24_684_084 * 1024));
        assert_eq!(field_bytes(text, "MemAvailable"), Some(102_400));
        assert_eq!(field_bytes(text, "Mem"), None);
        assert_eq!(field_bytes(text, "HugePages_Total"), None, "a count, not kilobytes");
    }

    #[test]
    fn faults_are_found_behind_any_name() {
        let stat = "3034 (a) (b c) S 3025 3034 3025 0 -1 4194304 1210 44 2 0 1 0 0 0 20 0 1 0 51\n";
        assert_eq!(minor_faults(stat), Some(1210));
        assert_eq!(minor_faults("3034 (cut) S 1"), None);
        assert_eq!(minor_faults(""), None);
    }

    #[test]
    fn groups_of_both_versions_are_looked_for_up_to_the_root() {
        let folders = group_folders("0::/user.slice/run.scope\n");
        let expected = ["/sys/fs/cgroup/user.slice/run.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"];
        assert_eq!(folders, expected.map(PathBuf::from));
        let folders = group_folders("9:name=systemd:/x\n4:cpu,memory:/docker/1\nbroken\n");
        let expected =
            ["/sys/fs/cgroup/memory/docker/1", "/sys/fs/cgroup/memory/docker", "/sys/fs/cgroup/memory"];
        assert_eq!(folders, expected.map(PathBuf::from));
    }

    #[test]
    fn caches_count_as_free() {
        let limit = Limit { max_bytes: 1000, used_bytes: 700, cache_bytes: 200 };
        assert_eq!(limit.free_bytes(), 500);
        let full = Limit { max_bytes: 1000, used_bytes: 1200, cache_bytes: 0 };
        assert_eq!(full.free_bytes(), 0);
    }
}
