//! What the machine has, and how busy it is.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use tunesmith_platform::gpu::{Backend, Detection, SystemProbe};
use tunesmith_platform::{
    CpuLoad, available_memory_bytes, free_disk_bytes, gpu_loads, machine, total_disk_bytes,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::error::ApiResult;
use crate::events::GlobalEvent;
use crate::state::AppState;

/// How often listeners are told.
const PERIOD: Duration = Duration::from_secs(2);

/// The machine.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MachineInfo {
    /// Version of the program.
    version: String,
    /// The processor's architecture: `x86_64`, `arm64`, ….
    platform: String,
    os: String,
    hostname: String,
    /// The studio's work folder.
    workdir: String,
    /// Where a choice of files begins.
    home_dir: String,
    cpu: Cpu,
    memory: Memory,
    disk: Disk,
    devices: Vec<Device>,
    /// Kinds of graphics processors that are not used.
    passed_over: Vec<PassedOver>,
    load: MachineLoad,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct Cpu {
    model: String,
    n_cores: u64,
    /// Vector extensions.
    instruction_sets: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct Memory {
    total_bytes: u64,
    available_bytes: u64,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct Disk {
    /// A folder on it.
    path: String,
    total_bytes: u64,
    free_bytes: u64,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct Device {
    /// As settings call it: `cpu`, `cuda:0`, ….
    name: String,
    /// As its maker calls it.
    label: String,
    /// `cpu`, `cuda`, `mps` or `vulkan`.
    kind: String,
    #[schema(required)]
    memory_total_bytes: Option<u64>,
    /// Whether `auto` means it.
    is_default: bool,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct PassedOver {
    backend: String,
    reason: String,
}

/// How busy the machine is.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct MachineLoad {
    /// Part of all cores that is busy, 0 to 1, since it was last asked.
    cpu_share: f64,
    /// Graphics processors whose driver tells.
    devices: Vec<DeviceLoad>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct DeviceLoad {
    name: String,
    /// Part of the time in which it computed, 0 to 1.
    share: f64,
    memory_used_bytes: u64,
}

/// What was found out about the machine, and the last look at its load.
#[derive(Debug, Default)]
pub struct MachineWatch {
    detection: OnceLock<Detection>,
    cpu: Mutex<CpuLoad>,
}

/// The routes of this module.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// The machine that the studio runs on
#[utoipa::path(get, path = "/machine",
    operation_id = "show_machine", tag = "machine", responses((status = 200, body = MachineInfo)))]
async fn show(State(state): State<AppState>) -> ApiResult<Json<MachineInfo>> {
    Ok(Json(tokio::task::spawn_blocking(move || look(&state)).await?))
}

/// Tells listeners of the load from now on.
pub(crate) fn start(state: &AppState) {
    let state = state.clone();
    tokio::spawn(async move {
        let mut ended = std::pin::pin!(state.shutdown.wait());
        loop {
            if state.events.has_listeners() {
                let of_thread = state.clone();
                let tick = tokio::task::spawn_blocking(move || {
                    json!({
                        "load": load(&of_thread), "memory": memory(), "disk": disk(&of_thread),
                    })
                });
                if let Ok(tick) = tick.await {
                    state.events.publish(GlobalEvent::Machine(tick));
                }
            }
            tokio::select! {
                () = &mut ended => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    });
}

fn look(state: &AppState) -> MachineInfo {
    let facts = machine();
    let detection =
        state.machine.detection.get_or_init(|| Detection::of(&SystemProbe, &state.compiled_backends));
    let label = facts.processor.unwrap_or_else(|| facts.arch.clone());
    let cpu = Device {
        name: "cpu".to_owned(),
        label: label.clone(),
        kind: "cpu".to_owned(),
        memory_total_bytes: facts.total_memory_bytes,
        is_default: detection.backend == Backend::Cpu,
    };
    // Only those that this program can compute with; why not the others is said beside.
    let usable = detection.devices.iter().filter(|device| detection.compiled.contains(&device.backend));
    let gpus = usable.map(|device| Device {
        name: match device.backend {
            Backend::Mps => "metal".to_owned(),
            backend => format!("{}:{}", backend.device_name(), device.index),
        },
        label: device.name.clone(),
        kind: device.backend.to_string(),
        memory_total_bytes: device.memory_bytes,
        is_default: detection.backend == device.backend && device.index == 0,
    });
    MachineInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: detection.platform.to_string(),
        os: facts.os,
        hostname: hostname(),
        workdir: state.workdir.root().display().to_string(),
        home_dir: home_dir(),
        cpu: Cpu { model: label, n_cores: facts.n_cores as u64, instruction_sets: facts.instruction_sets },
        memory: memory(),
        disk: disk(state),
        devices: std::iter::once(cpu).chain(gpus).collect(),
        passed_over: detection
            .passed_over
            .iter()
            .map(|passed| PassedOver { backend: passed.backend.to_string(), reason: passed.reason.clone() })
            .collect(),
        load: load(state),
    }
}

fn load(state: &AppState) -> MachineLoad {
    let cpu_share = state.machine.cpu.lock().unwrap_or_else(PoisonError::into_inner).share();
    let devices = gpu_loads()
        .into_iter()
        .map(|load| DeviceLoad {
            name: format!("cuda:{}", load.index),
            share: load.share,
            memory_used_bytes: load.memory_used_bytes,
        })
        .collect();
    MachineLoad { cpu_share: cpu_share.unwrap_or(0.0), devices }
}

fn memory() -> Memory {
    Memory {
        total_bytes: machine().total_memory_bytes.unwrap_or(0),
        available_bytes: available_memory_bytes().unwrap_or(0),
    }
}

fn disk(state: &AppState) -> Disk {
    let root = state.workdir.root();
    Disk {
        path: root.display().to_string(),
        total_bytes: total_disk_bytes(root).unwrap_or(0),
        free_bytes: free_disk_bytes(root).unwrap_or(0),
    }
}

/// The user's folder; the root of the disk without one.
pub(crate) fn home_dir() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    variable("HOME").or_else(|| variable("USERPROFILE")).unwrap_or_else(|| "/".to_owned())
}

fn hostname() -> String {
    let file = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let variable = || std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok();
    file.map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .or_else(variable)
        .unwrap_or_else(|| "localhost".to_owned())
}
