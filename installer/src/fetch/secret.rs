//! Credentials of a registry from a mounted pull secret.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A pull secret that cannot be used. The error has nothing of its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is not in Docker's format.
    #[error("it is not the JSON of a secret of the type kubernetes.io/dockerconfigjson")]
    Form,
    /// An entry is not `user:password` in base64.
    #[error("its entry for {0} is not user:password in base64")]
    Entry(String),
}

/// The format of `docker login` and pull secrets.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// Returns the credentials for `registry`; anonymous if there is no file or no entry for it.
pub(super) fn auth_for(registry: &str, file: &Path) -> Result<RegistryAuth, SecretError> {
    match fs::read(file) {
        Ok(text) => find(&text, registry),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(SecretError::Unreadable(error)),
    }
}

fn find(text: &[u8], registry: &str) -> Result<RegistryAuth, SecretError> {
    // The parser's error is dropped: it may quote a password.
    let config: Config = serde_json::from_slice(text).map_err(|_| SecretError::Form)?;
    let Some(entry) = config
        .auths
        .iter()
        .find(|(key, _)| host_of(key) == host_of(registry))
        .map(|(_, entry)| entry)
    else {
        return Ok(RegistryAuth::Anonymous);
    };
    if entry.auth.is_empty() {
        if entry.username.is_empty() {
            return Ok(RegistryAuth::Anonymous);
        }
        return Ok(RegistryAuth::Basic(
            entry.username.clone(),
            entry.password.clone(),
        ));
    }
    let wrong = || SecretError::Entry(registry.to_owned());
    let decoded = STANDARD
        .decode(entry.auth.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(wrong)?;
    let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
    Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

/// Returns the registry of an entry's key: keys may be URLs, and Docker's own registry has three
/// names.
fn host_of(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key);
    if matches!(host, "docker.io" | "registry-1.docker.io") {
        "index.docker.io"
    } else {
        host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str, registry: &str) -> Option<(String, String)> {
        match find(text.as_bytes(), registry).unwrap() {
            RegistryAuth::Basic(user, password) => Some((user, password)),
            _ => None,
        }
    }

    #[test]
    fn login_is_found_by_its_registry() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6c2U6Y3JldA=="}, "r.example:5000": {"username": "you", "password": "p"}}}"#;
        assert_eq!(
            user(text, "docker.io"),
            Some(("me".into(), "se:cret".into()))
        );
        assert_eq!(
            user(text, "r.example:5000"),
            Some(("you".into(), "p".into()))
        );
        assert_eq!(user(text, "r.example"), None);
    }

    #[test]
    fn absent_secret_means_anonymous() {
        assert_eq!(user("{}", "r.example"), None);
        assert!(matches!(
            auth_for("r.example", Path::new("/no/such/file")).unwrap(),
            RegistryAuth::Anonymous
        ));
    }

    #[test]
    fn error_of_a_pull_secret_does_not_quote_it() {
        for text in [
            "hunter2",
            r#"{"auths": {"r.example": {"auth": "hunter2"}}}"#,
            r#"{"auths": {"r.example": {"auth": "aHVudGVyMg=="}}}"#,
        ] {
            let error = find(text.as_bytes(), "r.example").unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }
}
