//! What the Python package of the hub (huggingface_hub) keeps on this machine: where, and the token of a login.

use std::fs;
use std::path::PathBuf;

/// The variables and files that say how to reach the hub.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Environment {
    /// `HF_ENDPOINT`.
    pub(super) endpoint: Option<String>,
    /// The access token of a variable, else that of `hf auth login`.
    pub(super) token: Option<String>,
    /// The folder with `models--owner--name`.
    pub(super) hf_cache: Option<PathBuf>,
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub(super) is_offline: bool,
}

impl Environment {
    /// As huggingface_hub finds it, with `variable` for the environment.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable =
            |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let home = variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from);
        let path = |text: String| match (text.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        let hf_home = variable("HF_HOME").map(path).or_else(|| {
            let cache =
                variable("XDG_CACHE_HOME").map(path).or_else(|| Some(home.as_ref()?.join(".cache")))?;
            Some(cache.join("huggingface"))
        });
        let is_set = |name: &str| {
            variable(name).is_some_and(|text| {
                !matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off")
            })
        };
        let token_path =
            variable("HF_TOKEN_PATH").map(path).or_else(|| Some(hf_home.as_ref()?.join("token")));
        let stored_token = || {
            // Whatever keeps it from being read: without a token most models can be fetched.
            let text = fs::read_to_string(token_path?).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty() && !text.contains(['\r', '\n']))
        };
        Self {
            endpoint: variable("HF_ENDPOINT"),
            token: variable("HF_TOKEN")
                .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { stored_token() }),
            hf_cache: variable("HF_HUB_CACHE")
                .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
                .map(path)
                .or_else(|| Some(hf_home.as_ref()?.join("hub"))),
            is_offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn tokens_are_found_where_the_python_package_puts_them() {
        let home = tempfile::tempdir().unwrap();
        let home_text = home.path().to_str().unwrap();
        let put = |name: &str, token: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, token).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let token = |more: &[(&str, &str)]| read(&[&[("HOME", home_text)], more].concat()).token;
        assert_eq!(token(&[]), None);
        put(".cache/huggingface/token", "hf_login\n");
        assert_eq!(token(&[]).as_deref(), Some("hf_login"));
        put("xdg/huggingface/token", "hf_xdg");
        let xdg = home.path().join("xdg");
        let xdg = ("XDG_CACHE_HOME", xdg.to_str().unwrap());
        assert_eq!(token(&[xdg]).as_deref(), Some("hf_xdg"));
        put("hf/token", " hf_home \r\n");
        let hf_home = ("HF_HOME", "~/hf");
        assert_eq!(token(&[xdg, hf_home]).as_deref(), Some("hf_home"));
        let path = put("elsewhere", "hf_path");
        let token_path = ("HF_TOKEN_PATH", path.as_str());
        assert_eq!(token(&[xdg, hf_home, token_path]).as_deref(), Some("hf_path"));
        let old = ("HUGGING_FACE_HUB_TOKEN", "hf_old");
        assert_eq!(token(&[token_path, old]).as_deref(), Some("hf_old"));
        assert_eq!(token(&[token_path, old, ("HF_TOKEN", "hf_new")]).as_deref(), Some("hf_new"));
        assert_eq!(token(&[old, ("HF_TOKEN", "  ")]).as_deref(), Some("hf_old"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        put(".cache/huggingface/token", "  \n");
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn the_cache_is_where_the_python_package_has_it() {
        let cache = |variables: &[(&str, &str)]| read(variables).hf_cache;
        assert_eq!(cache(&[]), None);
        assert_eq!(cache(&[("HOME", "/h")]).as_deref(), Some(Path::new("/h/.cache/huggingface/hub")));
        let xdg = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x")];
        assert_eq!(cache(&xdg).as_deref(), Some(Path::new("/x/huggingface/hub")));
        let home = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")];
        assert_eq!(cache(&home).as_deref(), Some(Path::new("/f/hub")));
        let old = [("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")];
        assert_eq!(cache(&old).as_deref(), Some(Path::new("/o")));
        let new = [("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/n")];
        assert_eq!(cache(&new).as_deref(), Some(Path::new("/n")));
    }

    #[test]
    fn offline_is_said_in_several_ways() {
        for (name, value, expected) in [
            ("HF_HUB_OFFLINE", "1", true),
            ("HF_HUB_OFFLINE", "0", false),
            ("HF_HUB_OFFLINE", "False", false),
            ("HF_HUB_OFFLINE", "ON", true),
            ("TRANSFORMERS_OFFLINE", "true", true),
            ("OTHER", "1", false),
        ] {
            assert_eq!(read(&[(name, value)]).is_offline, expected, "{name}={value}");
        }
    }
}
