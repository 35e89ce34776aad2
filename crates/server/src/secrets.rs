//! Tokens for other services: encrypted on the disk, never in answers, logs, experiment files or exports.
//!
//! The key lies beside, in a file that only this user may read. That keeps secrets out of backups and copies of the work
//! folder that leave the key out, and out of what other users may read; it does not keep them from this user's programs.

mod known;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tunesmith_formats::write_file;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::known::HUGGING_FACE_TOKEN;
pub(crate) use self::known::{
    AZURE_CONNECTION_STRING, GOOGLE_SERVICE_ACCOUNT, KAGGLE_KEY, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY,
    kaggle_credentials,
};
use self::known::{KNOWN, checked, known};
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

const KEY_FILE: &str = "secrets.key";
const DATA_FILE: &str = "secrets.enc";
const NONCE_BYTES: usize = 24;

/// The secrets of a work folder.
pub struct Secrets {
    folder: PathBuf,
    /// One writer at a time.
    lock: Mutex<()>,
}

impl Secrets {
    /// The secrets below `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), lock: Mutex::new(()) }
    }

    /// A secret.
    ///
    /// # Errors
    /// The files cannot be read, or do not belong together.
    pub fn get(&self, name: &str) -> ApiResult<Option<String>> {
        Ok(self.read()?.remove(name))
    }

    /// All secrets that are set, by the variables in which training runs get them.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn variables(&self) -> ApiResult<Vec<(String, String)>> {
        let mut all = self.read()?;
        let of =
            KNOWN.iter().filter_map(|secret| Some((secret.variable?.to_owned(), all.remove(secret.name)?)));
        Ok(of.collect())
    }

    /// Keeps a secret; without a value it is forgotten.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn set(&self, name: &str, value: Option<&str>) -> ApiResult<()> {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.read()?;
        match value {
            Some(value) => all.insert(name.to_owned(), value.to_owned()),
            None => all.remove(name),
        };
        let text = serde_json::to_vec(&all).map_err(|error| ApiError::internal(error.to_string()))?;
        let nonce: [u8; NONCE_BYTES] = random_bytes()?;
        let sealed = self
            .cipher()?
            .encrypt(&XNonce::from(nonce), text.as_slice())
            .map_err(|_| ApiError::internal("the secrets cannot be encrypted"))?;
        let path = self.folder.join(DATA_FILE);
        write_file(&path, &[nonce.as_slice(), &sealed].concat())?;
        private(&path)
    }

    fn read(&self) -> ApiResult<BTreeMap<String, String>> {
        let path = self.folder.join(DATA_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(ApiError::io(&path, "read", &error)),
        };
        let broken = || {
            ApiError::internal("the stored secrets cannot be decrypted")
                .hint(format!("remove {DATA_FILE} from the work folder and enter them again"))
        };
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(broken)?;
        let text = self.cipher()?.decrypt(&XNonce::from(*nonce), sealed).map_err(|_| broken())?;
        serde_json::from_slice(&text).map_err(|_| broken())
    }

    fn cipher(&self) -> ApiResult<XChaCha20Poly1305> {
        let path = self.folder.join(KEY_FILE);
        let key: [u8; 32] = match fs::read(&path) {
            Ok(bytes) => {
                bytes.try_into().map_err(|_| ApiError::internal(format!("{} is no key", path.display())))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = random_bytes()?;
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let mut file = options.open(&path).map_err(|error| ApiError::io(&path, "create", &error))?;
                file.write_all(&key).map_err(|error| ApiError::io(&path, "write", &error))?;
                key
            }
            Err(error) => return Err(ApiError::io(&path, "read", &error)),
        };
        Ok(XChaCha20Poly1305::new(&Key::from(key)))
    }
}

impl std::fmt::Debug for Secrets {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// Only this user may read the file.
fn private(path: &Path) -> ApiResult<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path, permissions).map_err(|error| ApiError::io(path, "protect", &error))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Random bytes of the system.
///
/// # Errors
/// It has none.
pub(crate) fn random_bytes<const N: usize>() -> ApiResult<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| ApiError::internal(format!("the system has no random numbers: {error}")))?;
    Ok(bytes)
}

/// A random word of `n_bytes` bytes (at most 32) in hexadecimal.
///
/// # Errors
/// As [`random_bytes`].
pub(crate) fn random_hex(n_bytes: usize) -> ApiResult<String> {
    let bytes: [u8; 32] = random_bytes()?;
    Ok(bytes.iter().take(n_bytes).map(|byte| format!("{byte:02x}")).collect())
}

/// A secret as clients see it: never its value.
#[derive(Debug, Serialize, ToSchema)]
struct Secret {
    name: String,
    label: String,
    /// What it is for, and where it comes from.
    hint: String,
    is_set: bool,
    /// Where it is kept: `file`.
    store: String,
}

#[derive(Deserialize, ToSchema)]
struct SecretValue {
    value: String,
}

/// The routes of this module.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, delete))
}

/// Which secrets there can be, and which are set
#[utoipa::path(get, path = "/secrets",
    operation_id = "list_secrets", tag = "settings", responses((status = 200, body = Vec<Secret>)))]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<Secret>>> {
    let all = state.secrets.read()?;
    let secrets = KNOWN.iter().map(|secret| Secret {
        name: secret.name.to_owned(),
        label: secret.label.to_owned(),
        hint: secret.hint.to_owned(),
        is_set: all.contains_key(secret.name),
        store: "file".to_owned(),
    });
    Ok(Json(secrets.collect()))
}

/// Keep a secret
#[utoipa::path(put, path = "/secrets/{name}",
    operation_id = "set_secret", tag = "settings", request_body = SecretValue, params(("name" = String, Path)), responses((status = 204)))]
async fn put(
    State(state): State<AppState>,
    UrlPath(name): UrlPath<String>,
    Json(secret): Json<SecretValue>,
) -> ApiResult<StatusCode> {
    let name = known(&name)?.name;
    state.secrets.set(name, Some(&checked(name, &secret.value)?))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forget a secret
#[utoipa::path(delete, path = "/secrets/{name}",
    operation_id = "delete_secret", tag = "settings", params(("name" = String, Path)), responses((status = 204)))]
async fn delete(State(state): State<AppState>, UrlPath(name): UrlPath<String>) -> ApiResult<StatusCode> {
    state.secrets.set(known(&name)?.name, None)?;
    Ok(StatusCode::NO_CONTENT)
}
