//! `tunesmith doctor`: what this machine can do, whether its devices compute right, and what stands in the way.

use std::net::{TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tunesmith_ops::{COMPILED_BACKENDS, OpsError, SelfTest, choose_device, open_device};
use tunesmith_platform::gpu::{Backend, Detection, SystemProbe};
use tunesmith_platform::{Machine, available_memory_bytes, free_disk_bytes, machine};

use crate::failure::{Exit, Failure};
use crate::memory::human_bytes;
use crate::model_store;
use crate::terminal::{Style, Terminal};

/// How long the hub may take to answer.
const HUB_PATIENCE: Duration = Duration::from_secs(3);

/// Examine this machine: devices, their numbers and speed, disk, network
///
/// Lists what was found and why each backend that does not compute was passed over; lets every device that this program can
/// use compute a product of matrices and a training step, and compares the numbers with the processor's. With `--device` the
/// exit code is 7 when that device is not there or computes wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith doctor
  tunesmith doctor --device cuda
  tunesmith doctor --json | jq .detection.backend")]
pub(crate) struct DoctorArgs {
    /// Test this device: auto, cpu, cuda, cuda:1, metal, vulkan, …
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    available_memory_bytes: Option<u64>,
    detection: Detection,
    tests: Vec<DeviceTest>,
    cache: CacheReport,
    hub: HubReport,
}

/// A device, and what came of letting it compute.
#[derive(Debug, Serialize)]
struct DeviceTest {
    device: String,
    is_right: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_difference: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    training_step_difference: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flops_per_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_sec: Option<f64>,
}

/// Where models and tokens are kept.
#[derive(Debug, Serialize)]
struct CacheReport {
    path: Option<PathBuf>,
    is_writable: bool,
    free_bytes: Option<u64>,
}

/// Whether models can be fetched.
#[derive(Debug, Serialize)]
struct HubReport {
    address: String,
    is_reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Examines.
pub(crate) fn run(args: &DoctorArgs, terminal: &Terminal) -> Result<(), Failure> {
    // A wrong name is refused before anything is measured.
    let asked = args.device.as_deref().map(|name| (name, choose_device(name, None)));
    if let Some((_, Err(OpsError::Device(error @ tunesmith_platform::gpu::DeviceError::Unknown { .. })))) =
        &asked
    {
        return Err(OpsError::from(error.clone()).into());
    }
    let detection = Detection::of(&SystemProbe, COMPILED_BACKENDS);
    let tests = match &asked {
        Some((_, Ok(chosen))) => vec![test(&chosen.to_string())],
        Some((_, Err(_))) => Vec::new(),
        None => testable(&detection).iter().map(|name| test(name)).collect(),
    };
    let report = Report {
        machine: machine(),
        available_memory_bytes: available_memory_bytes(),
        detection,
        tests,
        cache: CacheReport::of(model_store::cache_dir().ok()),
        hub: HubReport::ask(),
    };
    if args.json {
        terminal.pretty_json(&report)?;
    } else {
        report.show(terminal);
    }
    let Some((name, chosen)) = asked else { return Ok(()) };
    let test = report.tests.first();
    let is_right = test.is_some_and(|test| test.is_right);
    if !args.json {
        show_availability(&report.detection, name, is_right, terminal);
    }
    chosen?;
    match test {
        Some(test) if !test.is_right => {
            let reason =
                test.error.clone().unwrap_or_else(|| "its numbers differ from the processor's".to_owned());
            Err(Failure::new(Exit::Device, format!("device {} does not work: {reason}", test.device))
                .hint("update its driver, or compute on another device"))
        }
        _ => Ok(()),
    }
}

/// The lines that scripts of the ARM64 port look for.
fn show_availability(detection: &Detection, name: &str, is_right: bool, terminal: &Terminal) {
    let available = if is_right { "True" } else { "False" };
    match name.to_ascii_lowercase().split(':').next() {
        Some("cuda") => terminal.line(format_args!("CUDA available: {available}")),
        Some("metal" | "mps") => terminal.line(format_args!("MPS available: {available}")),
        Some("vulkan") => terminal.line(format_args!("Vulkan available: {available}")),
        Some("auto") => terminal.line(format_args!("auto means: {}", detection.backend.device_name())),
        _ => {}
    }
}

/// The devices that this program can use here. A software renderer is left to those who ask for it: it takes minutes.
fn testable(detection: &Detection) -> Vec<String> {
    let gpus = detection
        .devices
        .iter()
        .filter(|device| detection.compiled.contains(&device.backend) && !device.is_software());
    let names = gpus.map(|device| match device.backend {
        Backend::Mps => device.backend.device_name().to_owned(),
        backend => format!("{}:{}", backend.device_name(), device.index),
    });
    names.chain([Backend::Cpu.device_name().to_owned()]).collect()
}

fn test(name: &str) -> DeviceTest {
    let failed = |error: String| DeviceTest {
        device: name.to_owned(),
        is_right: false,
        error: Some(error),
        product_difference: None,
        training_step_difference: None,
        flops_per_sec: None,
        bytes_per_sec: None,
    };
    let device = match open_device(name) {
        Ok(device) => device,
        Err(error) => return failed(error.to_string()),
    };
    // A driver that fails makes Burn panic; here that is a finding and no defect.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(|| SelfTest::run(&device)));
    set_hook(hook);
    match outcome {
        Ok(test) => DeviceTest {
            device: name.to_owned(),
            is_right: test.is_right(),
            error: None,
            product_difference: Some(test.product_difference),
            training_step_difference: Some(test.step_difference),
            flops_per_sec: Some(test.flops_per_sec),
            bytes_per_sec: Some(test.bytes_per_sec),
        },
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            failed(text.unwrap_or("its driver failed").lines().next().unwrap_or_default().to_owned())
        }
    }
}

impl CacheReport {
    fn of(path: Option<PathBuf>) -> Self {
        let existing = path.as_deref().and_then(|path| path.ancestors().find(|path| path.is_dir()));
        Self {
            is_writable: existing.is_some_and(is_writable),
            free_bytes: existing.and_then(free_disk_bytes),
            path,
        }
    }
}

/// Whether a file can be made in this folder; it is gone again afterwards.
fn is_writable(folder: &Path) -> bool {
    let path = folder.join(format!(".tunesmith-doctor-{}", std::process::id()));
    let is_made = std::fs::File::create_new(&path).is_ok();
    is_made && std::fs::remove_file(&path).is_ok()
}

impl HubReport {
    /// Opens a connection and closes it; nothing is sent.
    fn ask() -> Self {
        let address = std::env::var("HF_ENDPOINT").unwrap_or_default();
        let address = if address.is_empty() { "https://huggingface.co".to_owned() } else { address };
        let reason = reach(&address).err();
        Self { address, is_reachable: reason.is_none(), reason }
    }
}

fn reach(address: &str) -> Result<(), String> {
    let (scheme, rest) = address.split_once("://").ok_or("not an address with http:// or https://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "http" { 80 } else { 443 };
    let target = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let mut last = format!("{host} has no address");
    for address in target.to_socket_addrs().map_err(|error| error.to_string())? {
        match TcpStream::connect_timeout(&address, HUB_PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

impl Report {
    fn show(&self, terminal: &Terminal) {
        let line = |name: &str, text: String| {
            terminal.line(format_args!("{} {text}", terminal.paint(Style::Bold, &format!("{name:<16}"))));
        };
        let machine = &self.machine;
        line(
            "platform",
            format!("{} ({}), tunesmith {}", self.detection.platform, machine.os, env!("CARGO_PKG_VERSION")),
        );
        let processor = machine.processor.as_deref().unwrap_or("unknown");
        line(
            "processor",
            format!("{processor}, {} cores, {} threads", machine.n_cores, machine.n_threads_available),
        );
        line("instructions", machine.instruction_sets.join(" "));
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), human_bytes);
        line(
            "memory",
            format!(
                "{}, {} available",
                bytes(machine.total_memory_bytes),
                bytes(self.available_memory_bytes)
            ),
        );
        let backends: Vec<_> = self.detection.compiled.iter().map(|backend| backend.device_name()).collect();
        line("this build has", backends.join(", "));
        line("auto means", self.detection.backend.device_name().to_owned());
        for device in &self.detection.devices {
            line("found", device.to_string());
        }
        for passed in &self.detection.passed_over {
            line("passed over", format!("{}: {}", passed.backend.device_name(), passed.reason));
        }
        for test in &self.tests {
            test.show(terminal, &line);
        }
        let cache = &self.cache;
        let path = cache
            .path
            .as_ref()
            .map_or_else(|| "none: HOME is not set".to_owned(), |path| path.display().to_string());
        let writable = if cache.is_writable { "writable" } else { "NOT writable" };
        line("cache", format!("{path}, {writable}, {} free", bytes(cache.free_bytes)));
        let hub = &self.hub;
        let reachable = hub.reason.as_ref().map_or_else(
            || "reachable".to_owned(),
            |reason| format!("not reachable ({reason}): models have to be here already"),
        );
        line("hub", format!("{} {reachable}", hub.address));
    }
}

impl DeviceTest {
    fn show(&self, terminal: &Terminal, line: &impl Fn(&str, String)) {
        let verdict = if self.is_right {
            terminal.paint(Style::Green, "computes right")
        } else {
            terminal.paint(Style::Red, "DOES NOT WORK")
        };
        let mut text = format!("{}: {verdict}", self.device);
        if let Some(error) = &self.error {
            text.push_str(&format!(", {error}"));
        }
        if let (Some(product), Some(step)) = (self.product_difference, self.training_step_difference) {
            text.push_str(&format!("; product within {product:.0e}, training step within {step:.0e}"));
        }
        if let (Some(flops), Some(bytes)) = (self.flops_per_sec, self.bytes_per_sec) {
            text.push_str(&format!("; products {:.0} GFLOP/s, memory {:.1} GB/s", flops / 1e9, bytes / 1e9));
        }
        line("tested", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_nowhere_are_not_reachable() {
        assert!(reach("huggingface").is_err());
        // A port of this machine that nobody listens on.
        assert!(reach("http://127.0.0.1:1").is_err());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(reach(&format!("http://{}/models", listener.local_addr().unwrap())), Ok(()));
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_the_one_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let report = CacheReport::of(Some(dir.path().join("a/b")));
        assert!(report.is_writable && report.free_bytes.is_none_or(|bytes| 0 < bytes));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!CacheReport::of(None).is_writable);
    }
}
