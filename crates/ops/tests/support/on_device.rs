//! For the tests of graphics processors, a module of each test program that has some.
//!
//! A test for one backend lies in the module of its name, so that one filter selects all of them: `arm64_cuda::`,
//! `arm64_mps::`, `vulkan::`. Where the device is missing it prints why and passes, unless the backend is named in
//! `TUNESMITH_REQUIRE_DEVICE`.

use tunesmith_ops::{Device, open_device};

/// The variable that names the devices, separated by commas, whose absence is a failure.
const REQUIRED: &str = "TUNESMITH_REQUIRE_DEVICE";

/// The device `name`, or nothing after saying why.
///
/// # Panics
/// When it is missing although it is required.
pub(crate) fn device_under_test(name: &str) -> Option<Device> {
    match open_device(name) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var(REQUIRED).unwrap_or_default();
            assert!(!required.split(',').any(|required| required == name), "{name} is required: {error}");
            println!("skipped: {error}");
            None
        }
    }
}

/// `on_each_device!(f)` makes one test for each backend, which calls `f(name, &device)`.
macro_rules! on_each_device {
    ($test:ident) => {
        $crate::on_device::on_each_device!($test, arm64_cuda, "cuda");
        $crate::on_device::on_each_device!($test, arm64_mps, "metal");
        $crate::on_device::on_each_device!($test, vulkan, "vulkan");
    };
    ($test:ident, $backend:ident, $name:literal) => {
        mod $backend {
            #[test]
            fn $test() {
                if let Some(device) = $crate::on_device::device_under_test($name) {
                    super::$test($name, &device);
                }
            }
        }
    };
}

pub(crate) use on_each_device;
