//! Child processes that outlive the server, and how they are told apart from others that later get the same number.
//!
//! A process is its number, the moment it began, the boot it began in, and what its command line names. A number alone is
//! used again by the system, after a restart of the machine even for something that began "at the same time".

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_wrap::std::{CommandWrap, ProcessSession};
use serde::{Deserialize, Serialize};

/// A process that was started, as `process.json` in an experiment's folder tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The system's number of the process.
    pub(crate) pid: u32,
    /// When it began, in the system's own unit: clock ticks since the start of the machine on Linux, seconds elsewhere.
    pub(crate) start: u64,
    /// The start of the machine that `start` counts from; empty where `start` does not count from one.
    pub(crate) boot: String,
    /// A text that its command line has and no other process's: the folder of its run.
    pub(crate) marker: String,
}

impl Identity {
    /// The process with this number now, if its command line has the marker.
    pub(crate) fn of(pid: u32, marker: &str) -> Option<Self> {
        let (start, is_over) = system::start_of(pid)?;
        if is_over {
            return None;
        }
        let identity = Self { pid, start, boot: system::boot(), marker: marker.to_owned() };
        system::command_line(pid)?.contains(marker).then_some(identity)
    }

    /// Whether this very process is there and has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid, &self.marker).as_ref() == Some(self)
    }

    /// Sends the signal, if the process is still the one that is meant. Returns whether it was.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid).ok().filter(|pid| 1 < *pid);
        self.is_alive() && pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its arguments; one of them contains the marker.
    pub(crate) args: &'a [String],
    /// Variables besides those of the server.
    pub(crate) environment: &'a [(String, String)],
    /// Where it starts.
    pub(crate) folder: &'a Path,
    /// Where what it prints is appended.
    pub(crate) stdout: PathBuf,
    /// Where what it says is appended.
    pub(crate) stderr: PathBuf,
}

/// Starts a process in a session of its own: neither Ctrl-C in the server's terminal nor the end of the server reaches it.
/// A thread waits for its end, so that it does not stay behind as a zombie while the server lives.
///
/// # Errors
/// When a file cannot be opened or the program not started.
pub(crate) fn start_detached(launch: &Launch<'_>, marker: &str) -> io::Result<Identity> {
    let (stdout, stderr) = (append_to(&launch.stdout)?, append_to(&launch.stderr)?);
    let mut command = CommandWrap::with_new(launch.program, |command| {
        command
            .args(launch.args)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(launch.folder)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
    });
    command.wrap(ProcessSession);
    let mut child = command.spawn()?;
    let pid = child.id();
    // It may have ended already, but its number is its own until somebody waits for it.
    let start = system::start_of(pid).map(|(start, _)| start);
    thread::spawn(move || child.wait());
    let start = start.ok_or_else(|| io::Error::other("the system does not tell when the process began"))?;
    Ok(Identity { pid, start, boot: system::boot(), marker: marker.to_owned() })
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Linux tells everything in files.
#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    /// Clock ticks from the start of the machine to the start of the process, and whether it has ended and only waits for
    /// somebody to ask how.
    pub(super) fn start_of(pid: u32) -> Option<(u64, bool)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may hold anything; what follows does not.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let is_over = matches!(state, "Z" | "X" | "x");
        Some((fields.nth(18)?.parse().ok()?, is_over))
    }

    pub(super) fn command_line(pid: u32) -> Option<String> {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    }

    pub(super) fn boot() -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    }
}

/// Other systems are asked through a crate.
#[cfg(not(target_os = "linux"))]
mod system {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

    fn with_process<T>(pid: u32, look: impl FnOnce(&sysinfo::Process) -> Option<T>) -> Option<T> {
        let pid = Pid::from_u32(pid);
        let mut system = System::new();
        let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
        look(system.process(pid)?)
    }

    pub(super) fn start_of(pid: u32) -> Option<(u64, bool)> {
        with_process(pid, |process| {
            let is_over = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
            Some((process.start_time(), is_over))
        })
    }

    pub(super) fn command_line(pid: u32) -> Option<String> {
        with_process(pid, |process| {
            let parts: Vec<_> = process.cmd().iter().map(|part| part.to_string_lossy()).collect();
            Some(parts.join(" "))
        })
    }

    pub(super) fn boot() -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper(folder: &Path, marker: &str) -> Identity {
        let args = ["-c".to_owned(), "sleep 60; exit 3".to_owned(), marker.to_owned()];
        let launch = Launch {
            program: Path::new("/bin/sh"),
            args: &args,
            environment: &[],
            folder,
            stdout: folder.join("out"),
            stderr: folder.join("err"),
        };
        start_detached(&launch, marker).unwrap()
    }

    fn wait_for(what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(10), "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn another_process_with_the_same_number_is_not_mistaken() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().display().to_string();
        let real = sleeper(folder.path(), &marker);
        wait_for("the process is there", || real.is_alive());
        // The number was used again: everything else may differ, each by itself.
        let forged = [
            Identity { start: real.start - 1, ..real.clone() },
            Identity { boot: "another start of the machine".to_owned(), ..real.clone() },
            Identity { marker: "another-run".to_owned(), ..real.clone() },
            Identity { pid: std::process::id(), ..real.clone() },
        ];
        for other in forged {
            assert!(!other.is_alive(), "{other:?}");
            assert!(!other.signal(Signal::SIGKILL), "{other:?}");
        }
        assert!(real.is_alive(), "no signal reached it");
        assert!(real.signal(Signal::SIGKILL));
        wait_for("it ends, and is no zombie", || !real.is_alive());
    }

    #[test]
    fn one_that_ends_at_once_was_started_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let launch = Launch {
                program: Path::new("/bin/true"),
                args: &[],
                environment: &[],
                folder: folder.path(),
                stdout: folder.path().join("out"),
                stderr: folder.path().join("err"),
            };
            let process = start_detached(&launch, "marker").unwrap();
            wait_for("it ends", || !process.is_alive());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn it_has_a_session_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().display().to_string();
        let process = sleeper(folder.path(), &marker);
        wait_for("the process is there", || process.is_alive());
        let session_of = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
        };
        assert_eq!(session_of(process.pid), process.pid.to_string());
        assert_ne!(session_of(process.pid), session_of(std::process::id()));
        process.signal(Signal::SIGKILL);
    }
}
