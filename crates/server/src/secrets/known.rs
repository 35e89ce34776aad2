//! The secrets there can be: what each is for, and what its text has to look like.

use serde_json::{Map, Value};
use tunesmith_sources::Azure;

use crate::error::{ApiError, ApiResult};

/// For private models and data sets of the hub.
pub const HUGGING_FACE_TOKEN: &str = "huggingface_token";
/// For data sets of Kaggle.
pub(crate) const KAGGLE_KEY: &str = "kaggle_key";
/// For buckets of S3, with [`S3_SECRET_ACCESS_KEY`].
pub(crate) const S3_ACCESS_KEY_ID: &str = "s3_access_key_id";
/// For buckets of S3, with [`S3_ACCESS_KEY_ID`].
pub(crate) const S3_SECRET_ACCESS_KEY: &str = "s3_secret_access_key";
/// For containers of Azure Blob Storage.
pub(crate) const AZURE_CONNECTION_STRING: &str = "azure_connection_string";
/// For buckets of Google Cloud Storage.
pub(crate) const GOOGLE_SERVICE_ACCOUNT: &str = "google_service_account";

const MAX_SECRET_BYTES: usize = 8_192;

/// A secret there can be.
pub(super) struct Known {
    /// As clients call it.
    pub name: &'static str,
    /// As people call it.
    pub label: &'static str,
    /// What it is for, and where it comes from.
    pub hint: &'static str,
    /// The variable in which training runs get it; none where they have no use for it.
    pub variable: Option<&'static str>,
}

/// All of them. Addresses of judges and trackers are among them, since they may hold passwords and belong into no file of an
/// experiment.
pub(super) const KNOWN: [Known; 15] = [
    Known {
        name: HUGGING_FACE_TOKEN,
        label: "Hugging Face access token",
        hint: "Private and gated models and data sets. From huggingface.co, Settings, Access Tokens.",
        variable: Some("HF_TOKEN"),
    },
    Known {
        name: KAGGLE_KEY,
        label: "Kaggle key",
        hint: "The contents of kaggle.json, or an access token. From kaggle.com, Settings, API.",
        variable: None,
    },
    Known {
        name: S3_ACCESS_KEY_ID,
        label: "S3 access key ID",
        hint: "Private buckets of Amazon S3, MinIO and the like.",
        variable: None,
    },
    Known {
        name: S3_SECRET_ACCESS_KEY,
        label: "S3 secret access key",
        hint: "The second half of the key.",
        variable: None,
    },
    Known {
        name: AZURE_CONNECTION_STRING,
        label: "Azure connection string",
        hint: "Private containers. From the storage account, Access keys or Shared access signature.",
        variable: None,
    },
    Known {
        name: GOOGLE_SERVICE_ACCOUNT,
        label: "Google service account",
        hint: "Private buckets: the whole JSON key file of an account that may read them.",
        variable: None,
    },
    Known {
        name: "openai_api_key",
        label: "Key of the judge",
        hint: "For the metric GPT: the key of OpenAI, or of another service that speaks its protocol.",
        variable: Some("OPENAI_API_KEY"),
    },
    Known {
        name: "openai_api_base",
        label: "Address of the judge",
        hint: "Empty for OpenAI's own.",
        variable: Some("OPENAI_API_BASE"),
    },
    Known {
        name: "openai_api_type",
        label: "Kind of the judge's server",
        hint: "azure, or empty.",
        variable: Some("OPENAI_API_TYPE"),
    },
    Known {
        name: "openai_api_deployment_id",
        label: "Deployment of the judge",
        hint: "On Azure.",
        variable: Some("OPENAI_API_DEPLOYMENT_ID"),
    },
    Known {
        name: "openai_api_version",
        label: "Version of the judge's interface",
        hint: "On Azure.",
        variable: Some("OPENAI_API_VERSION"),
    },
    Known {
        name: "mlflow_tracking_uri",
        label: "Address of the MLflow server",
        hint: "For experiments with the logger MLflow.",
        variable: Some("MLFLOW_TRACKING_URI"),
    },
    Known {
        name: "mlflow_tracking_username",
        label: "Name at the MLflow server",
        hint: "Where that server asks for one.",
        variable: Some("MLFLOW_TRACKING_USERNAME"),
    },
    Known {
        name: "mlflow_tracking_password",
        label: "Password at the MLflow server",
        hint: "Belongs to the name.",
        variable: Some("MLFLOW_TRACKING_PASSWORD"),
    },
    Known {
        name: "mlflow_tracking_token",
        label: "Token for the MLflow server",
        hint: "Instead of name and password.",
        variable: Some("MLFLOW_TRACKING_TOKEN"),
    },
];

/// A known secret of that name.
pub(super) fn known(name: &str) -> ApiResult<&'static Known> {
    let found = KNOWN.iter().find(|known| known.name == name);
    found.ok_or_else(|| ApiError::not_found(format!("there is no secret called {name:?}")))
}

/// The text of a secret as it is kept, if it can be one.
///
/// # Errors
/// It cannot; the error does not repeat it.
pub(super) fn checked(name: &str, text: &str) -> ApiResult<String> {
    let text = match serde_json::from_str::<Map<String, Value>>(text) {
        // Key files have several lines.
        Ok(object) => Value::Object(object).to_string(),
        Err(_) => text.trim().to_owned(),
    };
    if text.is_empty() || text.len() > MAX_SECRET_BYTES || text.chars().any(char::is_control) {
        return Err(ApiError::invalid("a secret is one line of visible signs, or a JSON key file"));
    }
    match name {
        KAGGLE_KEY => {
            kaggle_credentials(&text)?;
        }
        AZURE_CONNECTION_STRING => {
            Azure::from_connection_string(&text.as_str().into())?;
        }
        GOOGLE_SERVICE_ACCOUNT => {
            let file: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
            if !(file.contains_key("private_key") && file.contains_key("client_email")) {
                return Err(ApiError::invalid("that is no key file of a service account")
                    .hint("paste the whole JSON file that Google gave, with private_key and client_email"));
            }
        }
        _ => {}
    }
    Ok(text)
}

/// User name and key in a secret of Kaggle; a token stands for itself and has no name.
///
/// # Errors
/// JSON that is no `kaggle.json`.
pub(crate) fn kaggle_credentials(text: &str) -> ApiResult<(String, String)> {
    let Ok(file) = serde_json::from_str::<Map<String, Value>>(text) else {
        return Ok((String::new(), text.to_owned()));
    };
    let part = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
    part("username").zip(part("key")).ok_or_else(|| {
        ApiError::invalid("the key of Kaggle has no username and key")
            .hint("paste the whole kaggle.json, or an access token")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_secret_is_refused_without_repeating_it() {
        let kaggle = "{\n  \"username\": \"ann\",\n  \"key\": \"0123\"\n}";
        assert_eq!(checked(KAGGLE_KEY, kaggle).unwrap(), r#"{"username":"ann","key":"0123"}"#);
        assert_eq!(kaggle_credentials(kaggle).unwrap(), ("ann".to_owned(), "0123".to_owned()));
        assert_eq!(kaggle_credentials("KGAT_token").unwrap(), (String::new(), "KGAT_token".to_owned()));
        for (name, text) in [
            (HUGGING_FACE_TOKEN, " "),
            (HUGGING_FACE_TOKEN, "hf_topsecret\nsecond line"),
            (KAGGLE_KEY, r#"{"username": "topsecret"}"#),
            (AZURE_CONNECTION_STRING, "topsecret"),
            (GOOGLE_SERVICE_ACCOUNT, "topsecret"),
            (GOOGLE_SERVICE_ACCOUNT, r#"{"client_email": "topsecret"}"#),
        ] {
            let error = checked(name, text).unwrap_err();
            assert!(!format!("{error:?}").contains("topsecret"), "{error:?}");
        }
    }
}
