//! For the tests of graphics processors, in this crate and above.
//!
//! A test for one backend lies in the module of its name, so that one filter selects all of them: `arm64_cuda::`,
//! `arm64_mps::`, `vulkan::`. Where the device is missing it prints why and passes, unless the backend is named in
//! `TUNESMITH_REQUIRE_DEVICE`.

#![expect(clippy::print_stdout, clippy::panic, reason = "this is a part of tests")]

use crate::{Device, open_device};

/// The variable that names the devices, separated by commas, whose absence is a failure.
const REQUIRED: &str = "TUNESMITH_REQUIRE_DEVICE";

/// The device `name`, or nothing after saying why.
///
/// # Panics
/// When it is missing although it is required.
pub fn device_under_test(name: &str) -> Option<Device> {
    match open_device(name) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var(REQUIRED).unwrap_or_default();
            if required.split(',').any(|required| required == name) {
                panic!("{name} is required: {error}");
            }
            println!("skipped: {error}");
            None
        }
    }
}

/// `on_each_device!(f)` makes one test for each backend, which calls `f(name, &device)`.
#[macro_export]
macro_rules! on_each_device {
    ($test:ident) => {
        $crate::on_each_device!($test, arm64_cuda, "cuda");
        $crate::on_each_device!($test, arm64_mps, "metal");
        $crate::on_each_device!($test, vulkan, "vulkan");
    };
    ($test:ident, $backend:ident, $name:literal) => {
        mod $backend {
            #[test]
            fn $test() {
                if let Some(device) = $crate::testing::device_under_test($name) {
                    super::$test($name, &device);
                }
            }
        }
    };
}
