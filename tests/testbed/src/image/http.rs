//! HTTP requests to one repository of a registry, sent with curl.
//!
//! `cargo xtask` is compiled before anything else happens, and a client of its own for HTTP and TLS
//! was more than half of that. curl gets its options on its standard input, where no other process
//! can read a password.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use serde_json::Value;

use super::reference::Reference;
use super::{Credentials, Registry, Transport};
use crate::command::Run;
use crate::requirements::{self, Need};

const NEEDS: &[Need] = &[Need {
    package: "curl",
    provides: "curl",
}];

/// Maximum seconds to connect.
const CONNECT_TIMEOUT: u32 = 30;
/// Maximum seconds without a byte in either direction.
const IDLE_TIMEOUT: u32 = 300;
/// The maximum number of characters of an answer in an error.
const MAX_ERROR: usize = 500;

/// The rights that a token is requested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    Pull,
    PullAndPush,
}

/// Access to one repository.
pub(super) struct Client<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    rights: Rights,
    /// The value of the Authorization header, once the registry has required one.
    authorization: RefCell<Option<String>>,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The whole URL, or the part of it behind the repository: `/blobs/DIGEST`.
    pub(super) target: &'a str,
    /// Accepted media types.
    pub(super) accept: &'a [&'a str],
    /// Media type and bytes to send.
    pub(super) body: Option<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// Creates a request without a body.
    pub(super) fn bare(method: Method, target: &'a str) -> Self {
        Self {
            method,
            target,
            accept: &[],
            body: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Put,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    /// The WWW-Authenticate header.
    challenge: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Returns the answer if it has the status `expected`.
    ///
    /// # Errors
    /// If it has another one.
    pub(super) fn expect(self, expected: u16) -> Result<Self> {
        ensure!(
            self.status == expected,
            "the registry answered with HTTP status {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
                .chars()
                .take(MAX_ERROR)
                .collect::<String>()
                .trim()
        );
        Ok(self)
    }
}

impl<'a> Client<'a> {
    /// Creates a client of the repository in `reference`.
    ///
    /// # Errors
    /// If curl cannot be installed.
    pub(super) fn new(
        registry: &'a Registry,
        reference: &'a Reference,
        rights: Rights,
    ) -> Result<Self> {
        requirements::install(NEEDS)?;
        Ok(Self {
            registry,
            reference,
            rights,
            authorization: RefCell::new(None),
        })
    }

    /// Sends `request`, and sends it again with the authorization that the registry requires.
    ///
    /// # Errors
    /// If the registry cannot be reached, or requires an authorization that it does not grant.
    pub(super) fn send(&self, request: Request<'_>) -> Result<Answer> {
        let answer = self.send_once(request)?;
        let Some(challenge) = answer.challenge.as_deref().filter(|_| answer.status == 401) else {
            return Ok(answer);
        };
        let granted = self.authorize(challenge)?;
        self.authorization.replace(Some(granted));
        self.send_once(request)
    }

    fn send_once(&self, request: Request<'_>) -> Result<Answer> {
        let url = self.url(request.target);
        let mut options = Options::new(self.registry.transport);
        options.set("url", &url);
        match request.method {
            Method::Get => options.flag("location"),
            Method::Head => options.flag("head"),
            Method::Post => options.set("data", ""),
            Method::Put => {}
        }
        for media_type in request.accept {
            options.header("Accept", media_type);
        }
        let is_its_own = url.starts_with(&self.origin());
        if let Some(value) = self
            .authorization
            .borrow()
            .as_deref()
            .filter(|_| is_its_own)
        {
            options.header("Authorization", value);
        }
        let mut file = tempfile::NamedTempFile::new().context("make a file for curl")?;
        if let Some((media_type, bytes)) = request.body {
            file.write_all(bytes).context("write a file for curl")?;
            options.set("upload-file", &file.path().to_string_lossy());
            options.header("Content-Type", media_type);
            // Do not wait for a registry that does not confirm it before the body.
            options.header("Expect", "");
        }
        options.run()
    }

    /// Returns the origin of the registry's URLs.
    fn origin(&self) -> String {
        let scheme = match self.registry.transport {
            Transport::Https => "https",
            Transport::Http => "http",
        };
        format!("{scheme}://{}/", self.reference.host())
    }

    fn url(&self, target: &str) -> String {
        let origin = self.origin();
        if target.starts_with("https://") || target.starts_with("http://") {
            target.to_owned()
        } else if let Some(path) = target.strip_prefix("/v2/") {
            format!("{origin}v2/{path}")
        } else {
            format!("{origin}v2/{}{target}", self.reference.repository())
        }
    }

    /// Returns the Authorization header that answers `challenge`.
    fn authorize(&self, challenge: &str) -> Result<String> {
        let basic = match &self.registry.credentials {
            Credentials::Anonymous => None,
            Credentials::Basic { user, password } => {
                let pair = format!("{user}:{password}");
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(format!("Basic {encoded}"))
            }
        };
        match Challenge::of(challenge)? {
            Challenge::Basic => basic.with_context(|| {
                format!(
                    "{} requires a user and a password: log in with docker login",
                    self.reference.registry()
                )
            }),
            Challenge::Bearer { realm, service } => self
                .token(&realm, service.as_deref(), basic.as_deref())
                .with_context(|| format!("get a token from {realm}")),
        }
    }

    fn token(&self, realm: &str, service: Option<&str>, basic: Option<&str>) -> Result<String> {
        let mut options = Options::new(self.registry.transport);
        options.set("url", realm);
        options.flag("get");
        let actions = match self.rights {
            Rights::Pull => "pull",
            Rights::PullAndPush => "pull,push",
        };
        let repository = self.reference.repository();
        options.set(
            "data-urlencode",
            &format!("scope=repository:{repository}:{actions}"),
        );
        if let Some(service) = service {
            options.set("data-urlencode", &format!("service={service}"));
        }
        if let Some(value) = basic {
            options.header("Authorization", value);
        }
        let answer = options.run()?.expect(200)?;
        let answer: Value = serde_json::from_slice(&answer.body).context("parse the answer")?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let token = token.context("the answer has no token")?;
        Ok(format!("Bearer {token}"))
    }
}

/// The authorization that a registry requires.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Parses the value of a WWW-Authenticate header.
    fn of(header: &str) -> Result<Self> {
        let (scheme, parameters) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Basic);
        }
        let value = |name: &str| {
            let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        match value("realm") {
            Some(realm) if scheme.eq_ignore_ascii_case("bearer") => Ok(Self::Bearer {
                realm,
                service: value("service"),
            }),
            _ => bail!("the registry requires an authorization that is not supported: {header}"),
        }
    }
}

/// The options of one run of curl, in the form of its configuration file.
struct Options(String);

impl Options {
    fn new(transport: Transport) -> Self {
        let mut options = Self(String::new());
        options.flag("silent");
        options.flag("show-error");
        options.flag("globoff");
        options.set("connect-timeout", &CONNECT_TIMEOUT.to_string());
        options.set("speed-limit", "1");
        options.set("speed-time", &IDLE_TIMEOUT.to_string());
        // Printed behind curl's own messages, one fact a line.
        options.set(
            "write-out",
            "%{stderr}\n%{http_code}\n%header{location}\n%header{www-authenticate}",
        );
        if transport == Transport::Http {
            // Such a registry is on this machine, or on a network of it.
            options.set("noproxy", "*");
        }
        options
    }

    fn flag(&mut self, name: &str) {
        self.0.push_str(name);
        self.0.push('\n');
    }

    fn set(&mut self, name: &str, value: &str) {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name} = \"{value}\"");
    }

    fn header(&mut self, name: &str, value: &str) {
        self.set("header", &format!("{name}: {value}"));
    }

    /// Runs curl.
    fn run(self) -> Result<Answer> {
        let output = Run::new("curl")
            .args(["--disable", "--config", "-"])
            .input(self.0)
            .output()?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "{}",
            printed.lines().next().unwrap_or("curl failed")
        );
        let facts: Vec<&str> = printed.rsplitn(4, '\n').collect();
        let [challenge, location, status, ..] = facts.as_slice() else {
            bail!("curl printed no status: {printed:?}")
        };
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Answer {
            status: status
                .trim()
                .parse()
                .with_context(|| format!("curl printed the status {status:?}"))?,
            location: given(location),
            challenge: given(challenge),
            body: output.stdout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_a_password_or_a_token_of_a_realm() {
        assert_eq!(
            Challenge::of("Basic realm=\"x\"").unwrap(),
            Challenge::Basic
        );
        assert_eq!(
            Challenge::of(
                "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"a\""
            )
            .unwrap(),
            Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("r.example".to_owned()),
            }
        );
        Challenge::of("Negotiate").unwrap_err();
        Challenge::of("Bearer service=\"r.example\"").unwrap_err();
    }

    #[test]
    fn option_cannot_end_its_line() {
        let mut options = Options(String::new());
        options.header("Authorization", "a\"\nurl = b\\");
        assert_eq!(
            options.0,
            "header = \"Authorization: a\\\"\\nurl = b\\\\\"\n"
        );
    }
}
