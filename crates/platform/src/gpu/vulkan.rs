//! Vulkan drivers, asked through the system's Vulkan loader.

#![expect(unsafe_code, reason = "Vulkan is a C interface whose library is opened at run time")]

use ash::{Entry, Instance, vk};

use super::{Absence, Backend, GpuDevice, GpuKind};

const LIBRARY: &str = if cfg!(windows) {
    "vulkan-1.dll"
} else if cfg!(target_os = "macos") {
    "libvulkan.dylib"
} else {
    "libvulkan.so.1"
};

/// The devices of all drivers, at least one.
pub(super) fn devices() -> Result<Vec<GpuDevice>, Absence> {
    // SAFETY: opening the loader runs its initialisers, which ask nothing of the program.
    let entry = unsafe { Entry::load() };
    let entry = entry.map_err(|_| Absence::NoLibrary { library: LIBRARY.to_owned() })?;
    let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1);
    let create = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the structures live through the call; no layer or extension is asked for.
    let instance = match unsafe { entry.create_instance(&create, None) } {
        Ok(instance) => instance,
        // The loader says this when it knows of no driver at all.
        Err(vk::Result::ERROR_INCOMPATIBLE_DRIVER) => return Err(Absence::NoDevice),
        Err(error) => return Err(broken("vkCreateInstance", error)),
    };
    // SAFETY: the instance is alive, and destroyed below after its last use.
    let devices = unsafe { instance.enumerate_physical_devices() };
    let found = devices.map_err(|error| broken("vkEnumeratePhysicalDevices", error)).map(|devices| {
        devices.into_iter().enumerate().map(|(index, device)| describe(&instance, index, device))
    });
    let found = found.map(Iterator::collect::<Vec<_>>);
    // SAFETY: nothing of the instance is used any more.
    unsafe { instance.destroy_instance(None) };
    found.and_then(|devices| if devices.is_empty() { Err(Absence::NoDevice) } else { Ok(devices) })
}

fn broken(call: &'static str, error: vk::Result) -> Absence {
    Absence::BrokenDriver { call, reason: format!("{error:?}") }
}

fn describe(instance: &Instance, index: usize, device: vk::PhysicalDevice) -> GpuDevice {
    let mut of_driver = vk::PhysicalDeviceDriverProperties::default();
    // SAFETY: the device belongs to the living instance.
    let (basic, memory) = unsafe {
        (
            instance.get_physical_device_properties(device),
            instance.get_physical_device_memory_properties(device),
        )
    };
    let text = |name: Result<&std::ffi::CStr, _>| {
        name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
    };
    let mut driver = format!(
        "Vulkan {}.{}",
        vk::api_version_major(basic.api_version),
        vk::api_version_minor(basic.api_version)
    );
    if vk::API_VERSION_1_2 <= basic.api_version {
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut of_driver);
        // SAFETY: the instance is of version 1.1, which has this call, and the device of 1.2, which has the structure.
        unsafe { instance.get_physical_device_properties2(device, &mut properties) };
        let names = [text(of_driver.driver_name_as_c_str()), text(of_driver.driver_info_as_c_str())];
        for name in names.iter().filter(|name| !name.is_empty()) {
            driver.push(' ');
            driver.push_str(name);
        }
    }
    let heaps = &memory.memory_heaps[..(memory.memory_heap_count as usize).min(memory.memory_heaps.len())];
    let own_bytes: u64 = heaps
        .iter()
        .filter(|heap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL))
        .map(|heap| heap.size)
        .sum();
    GpuDevice {
        backend: Backend::Vulkan,
        index,
        name: text(basic.device_name_as_c_str()),
        driver: Some(driver),
        memory_bytes: (0 < own_bytes).then_some(own_bytes),
        compute_capability: None,
        is_unified_memory: Some(basic.device_type != vk::PhysicalDeviceType::DISCRETE_GPU),
        kind: match basic.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => GpuKind::Discrete,
            vk::PhysicalDeviceType::INTEGRATED_GPU => GpuKind::Integrated,
            vk::PhysicalDeviceType::VIRTUAL_GPU => GpuKind::Virtual,
            vk::PhysicalDeviceType::CPU => GpuKind::Software,
            _ => GpuKind::Other,
        },
    }
}
