//! Where the judge is and how it is asked: the environment variables that OpenAI's own tools and H2O LLM Studio read.

use std::path::PathBuf;
use std::time::Duration;

use tunesmith_http::{Authorization, JsonService, Secret};

use crate::error::TrainError;

/// Where OpenAI itself answers.
const OPENAI: &str = "https://api.openai.com/v1";

/// A server that answers chat completions, and how patient one is with it.
///
/// Its key is in no file of a run and in no message.
#[derive(Clone, Debug)]
pub struct JudgeEndpoint {
    pub(super) service: JsonService,
    /// Path and query of chat completions.
    pub(super) path: String,
    /// Tries for each answer, at least one.
    pub(super) n_attempts: usize,
    /// Answers that are graded in one evaluation at most, at least one.
    pub(super) max_rows: usize,
    /// Folder with the user's own templates; need not be there.
    pub(super) prompts: PathBuf,
}

impl JudgeEndpoint {
    /// The judge that variables name, read through `variable`: `OPENAI_API_KEY`, `OPENAI_API_BASE`, `OPENAI_API_TYPE` (`azure`,
    /// then also `OPENAI_API_DEPLOYMENT_ID` and `OPENAI_API_VERSION`), `LLM_TIMEOUT` in seconds, `LLM_RETRY_ATTEMPTS`, `GPT_EVAL_MAX`,
    /// `TUNESMITH_PROMPTS`. `None` where there is neither key nor address: servers of one's own need no key.
    ///
    /// # Errors
    /// [`TrainError::Judge`] for a variable that makes no sense, or is missing for Azure.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TrainError> {
        let text = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let key = text("OPENAI_API_KEY").map(Secret::from);
        let base = text("OPENAI_API_BASE");
        if key.is_none() && base.is_none() {
            return Ok(None);
        }
        let number = |name: &str, default: usize| match text(name) {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(wrong(format!("{name} is {value:?}, not a whole number of at least 1"))),
            },
        };
        let timeout = Duration::from_secs(number("LLM_TIMEOUT", 60)? as u64);
        let is_azure = text("OPENAI_API_TYPE").is_some_and(|kind| kind.eq_ignore_ascii_case("azure"));
        let (base, path, authorization) = if is_azure {
            let needed = |name: &str, value: Option<String>| {
                value.ok_or_else(|| wrong(format!("OPENAI_API_TYPE is azure, but {name} is not set")))
            };
            let base = needed("OPENAI_API_BASE", base)?;
            let deployment = needed("OPENAI_API_DEPLOYMENT_ID", text("OPENAI_API_DEPLOYMENT_ID"))?;
            let version = text("OPENAI_API_VERSION").unwrap_or_else(|| "2023-05-15".to_owned());
            let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !is_plain(&deployment) || !is_plain(&version) {
                return Err(wrong(format!(
                    "{deployment:?} and {version:?} are no names of a deployment and a version"
                )));
            }
            let path = format!("/openai/deployments/{deployment}/chat/completions?api-version={version}");
            let key = key
                .ok_or_else(|| wrong("OPENAI_API_TYPE is azure, but OPENAI_API_KEY is not set".to_owned()))?;
            (base, path, Authorization::Header { name: "api-key", value: key })
        } else {
            let authorization = key.map_or(Authorization::None, Authorization::Bearer);
            (base.unwrap_or_else(|| OPENAI.to_owned()), "/chat/completions".to_owned(), authorization)
        };
        let service = JsonService::new(&base, authorization, timeout)
            .map_err(|error| wrong(format!("OPENAI_API_BASE: {error}")))?;
        Ok(Some(Self {
            service,
            path,
            n_attempts: number("LLM_RETRY_ATTEMPTS", 3)?,
            max_rows: number("GPT_EVAL_MAX", 100)?,
            prompts: text("TUNESMITH_PROMPTS").unwrap_or_else(|| "prompts".to_owned()).into(),
        }))
    }
}

fn wrong(reason: String) -> TrainError {
    TrainError::Judge { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<JudgeEndpoint>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        JudgeEndpoint::from_variables(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn key_or_address_make_a_judge() {
        assert!(of(&[("OPENAI_API_KEY", " "), ("LLM_TIMEOUT", "7")]).unwrap().is_none());
        let usual = of(&[("OPENAI_API_KEY", "topsecret")]).unwrap().unwrap();
        assert_eq!(
            (usual.service.shown(), usual.path.as_str()),
            ("https://api.openai.com", "/chat/completions")
        );
        assert_eq!((usual.n_attempts, usual.max_rows, usual.prompts), (3, 100, PathBuf::from("prompts")));
        assert!(!format!("{:?}", usual.service).contains("topsecret"));
        let own =
            of(&[("OPENAI_API_BASE", "http://localhost:8000/v1/"), ("GPT_EVAL_MAX", "5")]).unwrap().unwrap();
        assert_eq!((own.service.shown(), own.max_rows), ("http://localhost:8000", 5));
    }

    #[test]
    fn azure_has_a_path_for_each_deployment() {
        let mut variables = vec![
            ("OPENAI_API_TYPE", "Azure"),
            ("OPENAI_API_BASE", "https://me.openai.azure.com/"),
            ("OPENAI_API_KEY", "k"),
        ];
        assert!(of(&variables).unwrap_err().contains("OPENAI_API_DEPLOYMENT_ID"));
        variables.push(("OPENAI_API_DEPLOYMENT_ID", "judge-4"));
        let path = "/openai/deployments/judge-4/chat/completions?api-version=2023-05-15";
        assert_eq!(of(&variables).unwrap().unwrap().path, path);
        variables[3].1 = "judge?x=";
        assert!(of(&variables).unwrap_err().contains("judge?x="));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (name, value) in
            [("LLM_TIMEOUT", "0"), ("LLM_RETRY_ATTEMPTS", "many"), ("OPENAI_API_BASE", "localhost:1")]
        {
            assert!(of(&[("OPENAI_API_KEY", "k"), (name, value)]).unwrap_err().contains(name), "{name}");
        }
    }
}
