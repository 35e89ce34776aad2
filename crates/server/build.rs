//! Puts the built web app into the binary: a list of the files below `web/dist`, with a smaller copy of each for browsers
//! that take one. Without a build of the web app the list is empty, and the program says how to make one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> std::io::Result<()> {
    let variable =
        |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or_else(std::io::Error::last_os_error);
    let dist = variable("CARGO_MANIFEST_DIR")?.join("../../web/dist");
    let out = variable("OUT_DIR")?;
    // Until there is a build of the web app its folder is watched, where one will appear: a path that does not exist would make
    // every build start anew.
    let web = variable("CARGO_MANIFEST_DIR")?.join("../../web");
    let watched = if dist.is_dir() { dist.clone() } else { web };
    writeln!(std::io::stdout(), "cargo:rerun-if-changed={}", watched.display())?;
    let mut files = Vec::new();
    collect(&dist, &mut files);
    files.sort();
    let mut list = String::from("&[\n");
    for (number, path) in files.iter().enumerate() {
        writeln!(std::io::stdout(), "cargo:rerun-if-changed={}", path.display())?;
        let name = path.strip_prefix(&dist).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let bytes = fs::read(path)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        let packed = encoder.finish()?;
        let small = out.join(format!("{number}.gz"));
        // Pictures and fonts are packed already.
        let is_smaller = packed.len() < bytes.len() * 9 / 10;
        if is_smaller {
            fs::write(&small, packed)?;
        }
        let packed = if is_smaller { format!("Some(include_bytes!({small:?}))") } else { "None".to_owned() };
        // A copy: the web app may be built anew while this program is compiled.
        let path = out.join(format!("{number}.whole"));
        fs::write(&path, &bytes)?;
        list.push_str(&format!(
            "    File {{ name: {name:?}, bytes: include_bytes!({path:?}), packed: {packed} }},\n"
        ));
    }
    list.push_str("]\n");
    fs::write(out.join("files.rs"), list)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
