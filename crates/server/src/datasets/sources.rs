//! Where tables come from: an upload, or a place that `tunesmith_sources` fetches from with the studio's secrets. All end as
//! files in one folder.

use std::fs;
use std::path::Path;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tunesmith_sources::{
    Azure, Bucket, Google, HubDataset, KaggleDataset, Progress, S3, Service, Source as Place, SourceError,
    Task, plain_name_of, stem, unpack_if_archive,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::uploads;
use crate::error::{ApiError, ApiResult};
use crate::jobs::JobContext;
use crate::secrets::{
    AZURE_CONNECTION_STRING, GOOGLE_SERVICE_ACCOUNT, HUGGING_FACE_TOKEN, KAGGLE_KEY, S3_ACCESS_KEY_ID,
    S3_SECRET_ACCESS_KEY, kaggle_credentials,
};
use crate::state::AppState;

/// Folders of transfers that broke off begin with this; the rest says what was fetched.
const PARTIAL: &str = "partial-";

/// Where an import comes from.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Source {
    /// A file that was sent to `/uploads`.
    Upload {
        /// As `/uploads` answered.
        upload_id: String,
    },
    /// A file or folder of the machine that the studio runs on.
    Local {
        /// Its absolute path.
        path: String,
    },
    /// A file at an address.
    Url {
        /// `http://…` or `https://…`.
        url: String,
    },
    /// A data set of the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// `train`, ….
        #[serde(default = "default_split")]
        split: String,
        /// One of several configurations; the first if none is named.
        #[serde(default)]
        config: Option<String>,
        /// A branch, tag or commit; the main branch if none is named.
        #[serde(default)]
        revision: Option<String>,
        /// For this import only; the stored one otherwise.
        #[serde(default)]
        token: Option<String>,
    },
    /// A data set of Kaggle.
    Kaggle {
        /// `owner/name`, or `competitions/name`.
        dataset: String,
        /// One file of it; all if none is named.
        #[serde(default)]
        file: Option<String>,
    },
    /// Amazon S3 and what speaks its protocol.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Key of an object, or of a folder whose tables are all meant.
        #[serde(default)]
        key: String,
        /// Region; found out if none is named.
        #[serde(default)]
        region: Option<String>,
        /// Address of another service than Amazon's.
        #[serde(default)]
        endpoint: Option<String>,
    },
    /// Azure Blob Storage.
    Azure {
        /// Name of the container.
        container: String,
        /// As of S3.
        #[serde(default)]
        key: String,
        /// Storage account, for public containers; otherwise the connection string names it.
        #[serde(default)]
        account: Option<String>,
    },
    /// Google Cloud Storage.
    Google {
        /// Name of the bucket.
        bucket: String,
        /// As of S3.
        #[serde(default)]
        key: String,
        /// Address of another service than Google's; it is shown no credentials.
        #[serde(default)]
        endpoint: Option<String>,
    },
}

fn default_split() -> String {
    "train".to_owned()
}

/// What a source gave.
pub(crate) struct Fetched {
    /// A name to suggest.
    pub name: String,
    /// Where it came from, in words, without secrets.
    pub source: String,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ListingRequest {
    source: Source,
}

/// What can be chosen at one place.
#[derive(Debug, Serialize, ToSchema)]
struct SourceListing {
    /// Folders in it: whole keys, with a slash at the end.
    folders: Vec<String>,
    /// Files in it.
    files: Vec<SourceFile>,
    /// Whether there is more than is listed.
    is_cut: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct SourceFile {
    /// Its whole key.
    key: String,
    n_bytes: u64,
    /// Whether it is a table or an archive, by its name.
    can_import: bool,
}

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What lies in a bucket or a data set of Kaggle
#[utoipa::path(post, path = "/sources/list",
    operation_id = "list_source", tag = "datasets", request_body = ListingRequest,
    responses((status = 200, body = SourceListing)))]
async fn list(
    State(state): State<AppState>,
    Json(request): Json<ListingRequest>,
) -> ApiResult<Json<SourceListing>> {
    let listing = tokio::task::spawn_blocking(move || -> ApiResult<_> {
        let place = request.source.place(&state)?;
        let place =
            place.ok_or_else(|| ApiError::bad_request("an upload is one file; there is nothing to list"))?;
        Ok(place.list()?)
    })
    .await??;
    let file = |object: tunesmith_sources::Object| SourceFile {
        can_import: tunesmith_sources::is_importable(&plain_name_of(&object.key)),
        key: object.key,
        n_bytes: object.n_bytes,
    };
    Ok(Json(SourceListing {
        folders: listing.folders,
        files: listing.objects.into_iter().map(file).collect(),
        is_cut: listing.is_cut,
    }))
}

impl Source {
    /// A name for the job.
    pub(crate) fn label(&self) -> String {
        let what = match self {
            Self::Upload { .. } => "an upload".to_owned(),
            Self::Local { path } => path.clone(),
            Self::Url { url } => plain_name_of(url.split('?').next().unwrap_or(url)),
            Self::Hub { repo, .. } => repo.clone(),
            Self::Kaggle { dataset, .. } => dataset.clone(),
            Self::S3 { bucket, key, .. } | Self::Google { bucket, key, .. } => last_part(bucket, key),
            Self::Azure { container, key, .. } => last_part(container, key),
        };
        format!("Import {what}")
    }

    /// Brings the tables into `folder`, which is there and empty. Of another machine's tables, what has arrived when the
    /// connection or the user ends it is kept for the next import of the same.
    ///
    /// # Errors
    /// Whatever keeps them from there.
    pub(crate) fn fetch(&self, state: &AppState, folder: &Path, context: &JobContext) -> ApiResult<Fetched> {
        let on_progress = |progress: Progress<'_>| match progress {
            Progress::Doing(words) => context.say(words),
            Progress::Retrying(reason) => context.say(format!("{reason}; going on from there")),
            Progress::Bytes { done, total } => context.bytes(done, total),
        };
        let is_cancelled = || context.is_cancelled();
        let max_bytes = crate::settings::max_upload_bytes(state)?;
        let task = Task { max_bytes, on_progress: &on_progress, is_cancelled: &is_cancelled };
        let Some(place) = self.place(state)? else { return self.take_upload(state, folder, &task) };
        if matches!(place, Place::Local(_)) {
            let fetched = place.fetch(folder, &task)?;
            return Ok(Fetched { name: fetched.name, source: fetched.source });
        }
        let digest = Sha256::digest(place.identity().as_bytes());
        let digest: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let partial = state.workdir.uploads().join(format!("{PARTIAL}{digest}"));
        let fetched = place.fetch(&partial, &task).inspect_err(|error| {
            let is_kept = matches!(
                error,
                SourceError::Unreachable { .. } | SourceError::Cancelled | SourceError::Busy { .. }
            );
            if !is_kept {
                fs::remove_dir_all(&partial).ok();
            }
        })?;
        fs::remove_dir(folder)
            .and_then(|()| fs::rename(&partial, folder))
            .map_err(|error| ApiError::io(&partial, "move", &error))?;
        Ok(Fetched { name: fetched.name, source: fetched.source })
    }

    fn take_upload(&self, state: &AppState, folder: &Path, task: &Task<'_>) -> ApiResult<Fetched> {
        let Self::Upload { upload_id } = self else {
            return Err(ApiError::internal("a source without a place"));
        };
        let path = uploads::find(state, upload_id)?;
        let name = plain_name_of(&path.file_name().unwrap_or_default().to_string_lossy());
        let kept = folder.join(&name);
        fs::rename(&path, &kept).map_err(|error| ApiError::io(&path, "move", &error))?;
        uploads::remove(state, upload_id)?;
        unpack_if_archive(&kept, task)?;
        Ok(Fetched { source: format!("upload of {name}"), name: stem(&name) })
    }

    /// The place with its credentials; none for an upload. Stored secrets come before those of the environment that the
    /// studio was started in.
    fn place(&self, state: &AppState) -> ApiResult<Option<Place>> {
        let secret = |name: &str| state.secrets.get(name);
        let filled = |text: &Option<String>| {
            text.as_ref().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let bucket = |service: Service, name: &str, key: &str| {
            let (name, key) = (name.trim().to_owned(), key.trim().to_owned());
            if name.is_empty() {
                return Err(ApiError::bad_request("the name of the bucket is missing"));
            }
            Ok(Place::Bucket(Bucket { service, name, key }))
        };
        let place = match self {
            Self::Upload { .. } => return Ok(None),
            Self::Local { path } if !Path::new(path).is_absolute() => {
                let error = "the path of a local import begins at the root of the disk";
                return Err(ApiError::bad_request(error));
            }
            Self::Local { path } => Place::Local(path.into()),
            Self::Url { url } => {
                let url = url.trim();
                if !(url.starts_with("http://") || url.starts_with("https://")) {
                    let error = ApiError::bad_request(format!("{url:?} is not an address of the web"));
                    return Err(error.hint("it begins with https:// or http://"));
                }
                Place::Url(url.to_owned())
            }
            Self::Hub { repo, split, config, revision, token } => {
                let token = match filled(token) {
                    Some(token) => Some(token),
                    None => secret(HUGGING_FACE_TOKEN)?,
                };
                Place::Hub(HubDataset {
                    split: split.clone(),
                    config: filled(config),
                    revision: filled(revision),
                    token: token.unwrap_or_default().into(),
                    ..HubDataset::new(repo.trim())
                })
                .with_environment()?
            }
            Self::Kaggle { dataset, file } => {
                let (username, key) = kaggle_credentials(&secret(KAGGLE_KEY)?.unwrap_or_default())?;
                let dataset = KaggleDataset::new(dataset.trim());
                Place::Kaggle(KaggleDataset { file: filled(file), username, key: key.into(), ..dataset })
                    .with_environment()?
            }
            Self::S3 { bucket: name, key, region, endpoint } => {
                let (region, endpoint) = (filled(region), filled(endpoint));
                let surroundings = S3::from_environment();
                let stored = (secret(S3_ACCESS_KEY_ID)?, secret(S3_SECRET_ACCESS_KEY)?);
                let is_elsewhere =
                    endpoint.as_ref().is_some_and(|endpoint| *endpoint != surroundings.endpoint);
                let mut s3 = match stored {
                    (Some(id), Some(key)) => S3 {
                        access_key_id: id.into(),
                        secret_access_key: key.into(),
                        region: surroundings.region,
                        endpoint: surroundings.endpoint,
                        ..S3::default()
                    },
                    (None, None) if is_elsewhere => S3::default(),
                    (None, None) => surroundings,
                    _ => {
                        return Err(ApiError::invalid("only one half of the key of S3 is stored")
                            .hint("set both, or neither: Settings, Secrets"));
                    }
                };
                s3.region = region.unwrap_or(s3.region);
                s3.endpoint = endpoint.unwrap_or(s3.endpoint);
                bucket(Service::S3(s3), name, key)?
            }
            Self::Azure { container, key, account } => {
                let stored = match secret(AZURE_CONNECTION_STRING)? {
                    Some(text) => Azure::from_connection_string(&text.into())?,
                    None => Azure::from_environment()?,
                };
                let azure = match filled(account) {
                    // Another account's key is of no use there.
                    Some(account) if account != stored.account => Azure { account, ..Azure::default() },
                    _ => stored,
                };
                bucket(Service::Azure(azure), container, key)?
            }
            Self::Google { bucket: name, key, endpoint } => {
                let google = match (filled(endpoint), secret(GOOGLE_SERVICE_ACCOUNT)?) {
                    (Some(endpoint), _) => Google { endpoint, ..Google::default() },
                    (None, Some(text)) => Google { service_account: text.into(), ..Google::default() },
                    (None, None) => Google::from_environment()?,
                };
                bucket(Service::Google(google), name, key)?
            }
        };
        Ok(Some(place))
    }
}

fn last_part(bucket: &str, key: &str) -> String {
    let last = key.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if last.is_empty() { bucket.to_owned() } else { last.to_owned() }
}
