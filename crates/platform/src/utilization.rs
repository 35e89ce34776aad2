//! How busy the processor, and a graphics processor, are while something runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cpu_secs;
use crate::gpu::{Backend, Chosen};

/// Time between two looks at a graphics processor.
const PERIOD: Duration = Duration::from_millis(100);

/// How busy the devices were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Utilization {
    /// Cores that this process kept busy, on average; `None` where the system does not tell.
    pub cpu_cores: Option<f64>,
    /// Share of the time in which the graphics processor computed anything, whoever asked it to; `None` without one, and
    /// where its driver does not tell.
    pub gpu: Option<f64>,
}

/// Watches from its making to [`Watch::end`].
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    cpu_secs: Option<f64>,
    gpu: Option<GpuWatch>,
}

#[derive(Debug)]
struct GpuWatch {
    is_over: Arc<AtomicBool>,
    samples: mpsc::Receiver<f64>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch this process and the device it computes on.
    pub fn begin(device: Chosen) -> Self {
        let gpu = (device.backend == Backend::Cuda).then(|| watch_cuda(device.index.unwrap_or(0))).flatten();
        Self { started: Instant::now(), cpu_secs: cpu_secs(), gpu }
    }

    /// What was seen.
    pub fn end(self) -> Utilization {
        let wall_secs = self.started.elapsed().as_secs_f64().max(1e-9);
        let cpu_cores = cpu_secs().zip(self.cpu_secs).map(|(end, start)| (end - start) / wall_secs);
        let gpu = self.gpu.and_then(|watch| {
            watch.is_over.store(true, Ordering::Relaxed);
            watch.thread.join().ok()?;
            let samples: Vec<f64> = watch.samples.try_iter().collect();
            (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
        });
        Utilization { cpu_cores, gpu }
    }
}

/// How busy a graphics processor is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GpuLoad {
    /// Its number among NVIDIA's.
    pub index: usize,
    /// Part of the last moments in which it computed, 0 to 1.
    pub share: f64,
    /// Memory in use, by all programs.
    pub memory_used_bytes: u64,
}

/// How busy NVIDIA's graphics processors are; empty where no management library tells.
pub fn gpu_loads() -> Vec<GpuLoad> {
    let Ok(library) = nvml_wrapper::Nvml::init() else { return Vec::new() };
    let n_devices = library.device_count().unwrap_or(0);
    let load = |index: u32| {
        let device = library.device_by_index(index).ok()?;
        let share = f64::from(device.utilization_rates().ok()?.gpu) / 100.0;
        Some(GpuLoad { index: index as usize, share, memory_used_bytes: device.memory_info().ok()?.used })
    };
    (0..n_devices).filter_map(load).collect()
}

/// How busy all cores are between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuLoad {
    /// Clock ticks of all cores so far: busy, and all.
    ticks: Option<(u64, u64)>,
    /// What came out, in thousandths.
    share: Option<u64>,
}

impl CpuLoad {
    /// Part of the cores' time since the last look in which they were busy, 0 to 1; at the first look, since the machine
    /// was started. `None` where the system does not tell.
    pub fn share(&mut self) -> Option<f64> {
        let now = crate::system::cpu_ticks()?;
        let (busy, all) =
            self.ticks.map_or(now, |(busy, all)| (now.0.saturating_sub(busy), now.1.saturating_sub(all)));
        // Two looks within a tick see the same.
        if let Some(share) = busy.saturating_mul(1000).checked_div(all) {
            self.ticks = Some(now);
            self.share = Some(share);
        }
        self.share.map(|share| share.min(1000) as f64 / 1000.0)
    }
}

/// Asks NVIDIA's management library again and again; `None` where there is none, as on older Jetsons.
fn watch_cuda(index: usize) -> Option<GpuWatch> {
    let library = nvml_wrapper::Nvml::init().ok()?;
    let index = u32::try_from(index).ok()?;
    library.device_by_index(index).ok()?.utilization_rates().ok()?;
    let is_over = Arc::new(AtomicBool::new(false));
    let (sender, samples) = mpsc::channel();
    let stop = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let rates = library.device_by_index(index).and_then(|device| device.utilization_rates());
            if let Ok(rates) = rates
                && sender.send(f64::from(rates.gpu) / 100.0).is_err()
            {
                return;
            }
            thread::sleep(PERIOD);
        }
    });
    Some(GpuWatch { is_over, samples, thread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let watch = Watch::begin(Chosen::CPU);
        let started = Instant::now();
        let mut n_rounds = 0_u64;
        while started.elapsed() < Duration::from_millis(50) {
            n_rounds = std::hint::black_box(n_rounds + 1);
        }
        let seen = watch.end();
        assert_eq!(seen.gpu, None);
        if cfg!(unix) {
            assert!(0.0 < seen.cpu_cores.unwrap(), "{seen:?}");
        }
    }
}
