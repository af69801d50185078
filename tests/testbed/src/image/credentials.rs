//! Registry credentials from `docker login`, or anonymous access.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde_json::Value;

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    Anonymous,
    /// A user and a password or access token.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            // A password must not reach a log through a debug print.
            Self::Basic { user, .. } => f
                .debug_struct("Basic")
                .field("user", user)
                .finish_non_exhaustive(),
        }
    }
}

impl Credentials {
    /// Reads the credentials for `registry` from the user's docker configuration
    /// (`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`); anonymous if there is no such
    /// file or no entry.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or holds the credentials in an unsupported form.
    pub fn of_docker(registry: &str) -> Result<Self> {
        let folder = match std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => match std::env::var_os("HOME") {
                Some(home) => Path::new(&home).join(".docker"),
                None => return Ok(Self::Anonymous),
            },
        };
        let file = folder.join("config.json");
        if !file.exists() {
            return Ok(Self::Anonymous);
        }
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Self::in_docker_config(&text, registry)
            .with_context(|| format!("find credentials for {registry} in {}", file.display()))
    }

    /// Reads the credentials for `registry` from the docker configuration `text`.
    fn in_docker_config(text: &str, registry: &str) -> Result<Self> {
        let config: Value = serde_json::from_str(text).context("read it as JSON")?;
        let keys = keys_of(registry);
        let helper = keys
            .iter()
            .find_map(|key| config["credHelpers"][key].as_str());
        let entry = keys
            .iter()
            .map(|key| &config["auths"][key])
            .find(|entry| entry.is_object());
        // A helper is used only if it is configured for this registry, or if `docker login` left
        // its empty entry for it.
        let store = config["credsStore"].as_str().filter(|_| {
            entry.is_some_and(|entry| entry["auth"].as_str().is_none_or(str::is_empty))
        });
        if let Some(helper) = helper.or(store) {
            bail!(
                "they are kept by the credential helper {helper:?}, which this program does not \
                 call: write them as an \"auth\" entry"
            );
        }
        let Some(entry) = entry else {
            return Ok(Self::Anonymous);
        };
        if entry["identitytoken"].is_string() {
            bail!(
                "they are an identity token, which this program does not use: log in with a user \
                 and an access token"
            );
        }
        let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) else {
            return Ok(Self::Anonymous);
        };
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(auth)
            .context("decode its \"auth\" entry")?;
        let decoded = String::from_utf8(decoded).context("decode its \"auth\" entry")?;
        let (user, password) = decoded
            .split_once(':')
            .context("its \"auth\" entry is not user:password")?;
        Ok(Self::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }
}

/// Returns the keys under which docker stores credentials for `registry`.
fn keys_of(registry: &str) -> Vec<String> {
    let mut keys = vec![
        registry.to_owned(),
        format!("https://{registry}"),
        format!("http://{registry}"),
    ];
    if matches!(
        registry,
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    ) {
        keys.push("https://index.docker.io/v1/".to_owned());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "registry.example:5000";

    fn find(text: &str) -> Result<Credentials> {
        Credentials::in_docker_config(text, REGISTRY)
    }

    #[test]
    fn login_is_found_by_its_registry() {
        let text =
            r#"{"auths": {"registry.example:5000": {"auth": "bWU6c2VjcmV0OndpdGg6Y29sb25z"}}}"#;
        let expected = Credentials::Basic {
            user: "me".into(),
            password: "secret:with:colons".into(),
        };
        assert_eq!(find(text).unwrap(), expected);
        assert_eq!(
            Credentials::in_docker_config(text, "other.example").unwrap(),
            Credentials::Anonymous
        );
    }

    #[test]
    fn registry_without_an_entry_is_anonymous() {
        assert_eq!(find("{}").unwrap(), Credentials::Anonymous);
        assert_eq!(
            find(r#"{"credsStore": "desktop"}"#).unwrap(),
            Credentials::Anonymous
        );
    }

    #[test]
    fn credential_helper_is_refused_by_name() {
        for text in [
            r#"{"credHelpers": {"registry.example:5000": "gcloud"}}"#,
            r#"{"credsStore": "gcloud", "auths": {"registry.example:5000": {}}}"#,
        ] {
            let error = find(text).unwrap_err().to_string();
            assert!(error.contains("gcloud"), "{error}");
        }
    }

    #[test]
    fn password_is_not_printed() {
        let secret = Credentials::Basic {
            user: "me".into(),
            password: "secret".into(),
        };
        assert!(!format!("{secret:?}").contains("secret"));
    }
}
