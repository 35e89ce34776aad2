//! NVIDIA's driver, asked through the library that it brings (`libcuda.so.1`, `nvcuda.dll`). It is opened when the program
//! runs and left open, since drivers do not like to be unloaded; no toolkit and no nvidia-smi are needed.

#![expect(unsafe_code, reason = "calls functions of a C library that is opened at run time")]

use std::ffi::{CStr, c_char, c_int, c_uint};

use libloading::{Library, Symbol};

use super::{Absence, Backend, GpuDevice, GpuKind};

const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
const SUCCESS: c_int = 0;
const NO_DEVICE: c_int = 100;
/// `CUdevice_attribute`: the device shares the machine's memory.
const INTEGRATED: c_int = 18;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

/// The devices of the driver, at least one.
pub(super) fn devices() -> Result<Vec<GpuDevice>, Absence> {
    if cfg!(target_os = "macos") {
        return Err(Absence::OtherSystem { needs: "Linux and Windows" });
    }
    // SAFETY: opening NVIDIA's library runs its initialisers, which ask nothing of the program.
    let library = unsafe { Library::new(LIBRARY) };
    let library = library.map_err(|_| Absence::NoLibrary { library: LIBRARY.to_owned() })?;
    let driver = Driver(library);
    let found = driver.devices();
    // Never unloaded.
    std::mem::forget(driver);
    found
}

struct Driver(Library);

impl Driver {
    fn devices(&self) -> Result<Vec<GpuDevice>, Absence> {
        // SAFETY: the types of the functions are those of NVIDIA's cuda.h, for the versions of the names given here; what
        // pointers point to lives through each call, and lengths are passed on.
        unsafe {
            let init: Symbol<unsafe extern "C" fn(c_uint) -> c_int> = self.symbol("cuInit")?;
            self.check("cuInit", init(0))?;
            let count: Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> = self.symbol("cuDeviceGetCount")?;
            let mut n_devices = 0;
            self.check("cuDeviceGetCount", count(&raw mut n_devices))?;
            let version: Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> =
                self.symbol("cuDriverGetVersion")?;
            let mut number = 0;
            self.check("cuDriverGetVersion", version(&raw mut number))?;
            let driver = format!("CUDA {}.{}", number / 1000, number % 1000 / 10);
            if n_devices < 1 {
                return Err(Absence::NoDevice);
            }
            (0..n_devices).map(|index| self.device(index, &driver)).collect()
        }
    }

    fn device(&self, index: c_int, driver: &str) -> Result<GpuDevice, Absence> {
        let mut name = [0_u8; 256];
        let (mut handle, mut n_bytes) = (0, 0_usize);
        // SAFETY: as in `devices`; the name's buffer has the length that is passed on, and it stays terminated because its
        // last byte is not offered.
        unsafe {
            let get: Symbol<unsafe extern "C" fn(*mut c_int, c_int) -> c_int> = self.symbol("cuDeviceGet")?;
            self.check("cuDeviceGet", get(&raw mut handle, index))?;
            let get_name: Symbol<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int> =
                self.symbol("cuDeviceGetName")?;
            let length = name.len() as c_int - 1;
            self.check("cuDeviceGetName", get_name(name.as_mut_ptr().cast(), length, handle))?;
            let total: Symbol<unsafe extern "C" fn(*mut usize, c_int) -> c_int> =
                self.symbol("cuDeviceTotalMem_v2")?;
            self.check("cuDeviceTotalMem", total(&raw mut n_bytes, handle))?;
        }
        let attribute = |number| self.attribute(number, handle);
        let is_integrated = attribute(INTEGRATED)? != 0;
        Ok(GpuDevice {
            backend: Backend::Cuda,
            index: usize::try_from(index).unwrap_or(0),
            name: CStr::from_bytes_until_nul(&name)
                .map_or_else(|_| "NVIDIA device".to_owned(), |name| name.to_string_lossy().into_owned()),
            driver: Some(driver.to_owned()),
            memory_bytes: u64::try_from(n_bytes).ok(),
            compute_capability: Some((
                attribute(COMPUTE_CAPABILITY_MAJOR)?.unsigned_abs(),
                attribute(COMPUTE_CAPABILITY_MINOR)?.unsigned_abs(),
            )),
            is_unified_memory: Some(is_integrated),
            kind: if is_integrated { GpuKind::Integrated } else { GpuKind::Discrete },
        })
    }

    fn attribute(&self, number: c_int, handle: c_int) -> Result<c_int, Absence> {
        let mut value = 0;
        // SAFETY: as in `devices`.
        unsafe {
            let get: Symbol<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int> =
                self.symbol("cuDeviceGetAttribute")?;
            self.check("cuDeviceGetAttribute", get(&raw mut value, number, handle))?;
        }
        Ok(value)
    }

    /// # Safety
    /// `T` is the type of the function.
    unsafe fn symbol<T>(&self, name: &'static str) -> Result<Symbol<'_, T>, Absence> {
        // SAFETY: passed on from this function's contract.
        unsafe { self.0.get(name.as_bytes()) }
            .map_err(|_| Absence::BrokenDriver { call: name, reason: format!("not in {LIBRARY}") })
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), Absence> {
        match code {
            SUCCESS => Ok(()),
            NO_DEVICE => Err(Absence::NoDevice),
            code => Err(Absence::BrokenDriver { call, reason: self.error_name(code) }),
        }
    }

    fn error_name(&self, code: c_int) -> String {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: as in `devices`; the driver's names are constants of the library, which is never unloaded.
        unsafe {
            let get: Result<Symbol<unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int>, _> =
                self.symbol("cuGetErrorName");
            match get {
                Ok(get) if get(code, &raw mut name) == SUCCESS && !name.is_null() => {
                    CStr::from_ptr(name).to_string_lossy().into_owned()
                }
                _ => format!("error {code}"),
            }
        }
    }
}
