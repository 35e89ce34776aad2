//! What the user sees when the program itself is at fault: an apology with what to report, not a stack of frames.

use std::panic::{self, PanicHookInfo};
use std::process;

use tunesmith_platform::gpu::Backend;

use crate::failure::Exit;
use crate::out_of_memory::{self, Lack};
use crate::terminal::write_err;

/// From now on a panic on any thread prints one paragraph and ends the process with [`Exit::Internal`].
///
/// Ending the process is safe: files are written whole or not at all, and a training run resumes from its last
/// checkpoint. `RUST_BACKTRACE=1` brings the default report back for those who debug.
pub(crate) fn install() {
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        return;
    }
    panic::set_hook(Box::new(|info| {
        // Burn panics with what a driver says.
        let text = info.payload_as_str().unwrap_or_default();
        if let Some(lack) = Lack::of(text, Backend::Cpu) {
            out_of_memory::tell(lack);
        }
        write_err(format_args!("{}\n", report(info)));
        process::exit(i32::from(Exit::Internal.code()));
    }));
}

fn report(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().map_or_else(
        || "no message".to_owned(),
        |text| text.split_whitespace().collect::<Vec<_>>().join(" "),
    );
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    format!(
        "error: sorry, this is a defect of tunesmith {version}, not a mistake of yours: {what} (at {place}). Finished \
         checkpoints and exports are intact.\n\
         hint: please report this text together with the command line and, if you can, the experiment file; running \
         again with RUST_BACKTRACE=1 shows more",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_defect_is_reported_in_one_paragraph_with_place_and_what_to_do() {
        let told = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&told);
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| *heard.lock().unwrap() = report(info)));
        let outcome = panic::catch_unwind(|| panic!("two\nlines"));
        panic::set_hook(default);

        assert!(outcome.is_err());
        let told = told.lock().unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines[0].starts_with("error: sorry") && lines[0].contains("two lines"), "{told}");
        assert!(lines[0].contains("panic_hook.rs:"), "{told}");
        assert!(lines[1].starts_with("hint: please report"), "{told}");
    }
}
