//! The answer to a request.

use std::fmt::Write as _;
use std::future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::{BoxError, Service};

use super::{Link, Moment};
use crate::call::{Form, Options, Target, Verb};
use crate::clock::Clock;
use crate::faults::Fate;
use crate::record::Call;
use crate::refusal::Refusal;
use crate::resource;
use crate::store::{Key, Page, Store};
use crate::watch::{Watching, shown};
use crate::write::{Writer, Written};

/// The service of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(super) store: Arc<Mutex<Store>>,
    pub(super) calls: Arc<Mutex<Vec<Call>>>,
    pub(super) clock: Clock,
    pub(super) link: Arc<Link>,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The result of a request.
enum Outcome {
    /// A complete answer.
    Whole(u16, Vec<u8>),
    /// A watch.
    Watch(Box<Watching>),
}

impl Service<Request<Body>> for Front {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().answer(request).boxed()
    }
}

impl Front {
    async fn answer(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let options = Options::read(&parts);
        let target = match Target::read(&parts, &options) {
            Ok(target) => target,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let (time, fate) = {
            let mut state = self.link.state();
            let faults = state.faults.clone();
            let judged = faults.judge(
                &mut state.chance,
                matches!(target.verb, Verb::Update | Verb::Patch | Verb::Delete),
            );
            let (verb, plural) = (target.verb.as_str(), target.resource.plural);
            if faults.forbidden.contains(&(verb, plural)) {
                (judged.0, Fate::Refused(Refusal::forbidden(verb, plural)))
            } else {
                judged
            }
        };
        sleep(time).await;
        let cut = if target.verb.writes() {
            self.link.count_write()
        } else {
            None
        };
        if cut != Some(Moment::After) {
            self.link.stay_connected().await;
        }
        let outcome = match &fate {
            Fate::Lost => {
                self.note(&target, &options, 0);
                return Err(broken_connection());
            }
            Fate::Refused(refusal) => Err(refusal.clone()),
            Fate::Served | Fate::AnswerLost => self.perform(&target, &options, &body),
        };
        self.note(
            &target,
            &options,
            match &outcome {
                Ok(Outcome::Whole(code, _)) => *code,
                Ok(Outcome::Watch(_)) => 200,
                Err(refusal) => refusal.code,
            },
        );
        if cut.is_some() {
            // A client that was cut off does not reconnect: its process is gone.
            return future::pending().await;
        }
        self.link.stay_connected().await;
        match (outcome, fate) {
            (_, Fate::AnswerLost) => Err(broken_connection()),
            (Ok(Outcome::Whole(code, body)), _) => Ok(whole(code, body)),
            (Ok(Outcome::Watch(watching)), _) => Ok(streamed(*watching)),
            (Err(refusal), _) => Ok(refused(&refusal)),
        }
    }

    fn note(&self, target: &Target, options: &Options, code: u16) {
        let manager = options.value("fieldManager").unwrap_or_default().to_owned();
        let call = Call {
            at: self.clock.now(),
            by: self.link.name().clone(),
            manager,
            target: target.clone(),
            code,
        };
        self.calls
            .lock()
            .expect("nothing fails while it holds the calls")
            .push(call);
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store
            .lock()
            .expect("no test fails while it holds the store")
    }

    fn perform(&self, target: &Target, options: &Options, body: &[u8]) -> Result<Outcome, Refusal> {
        let value = || -> Result<Value, Refusal> {
            if body.is_empty() {
                Ok(json!({}))
            } else {
                serde_json::from_slice(body)
                    .map_err(|error| Refusal::bad_request(error.to_string()))
            }
        };
        let writer = Writer {
            by: self.link.name().clone(),
            manager: options
                .value("fieldManager")
                .unwrap_or(self.link.name())
                .to_owned(),
            subresource: target.subresource.clone(),
        };
        if !["", "status"].contains(&target.subresource.as_str()) {
            return Err(Refusal::no_such_path(&format!(
                "{}/{}",
                target.resource, target.subresource
            )));
        }
        let dry_run = options.dry_run();
        let done = |code: u16, object: &Value| {
            Ok(Outcome::Whole(
                code,
                shown(object, options.form()).to_string().into_bytes(),
            ))
        };
        match target.verb {
            Verb::Get => done(200, &*self.store().get(&target.key(&Value::Null))?),
            Verb::List => self.list(target, options),
            Verb::Watch => Ok(Outcome::Watch(Box::new(Watching::begin(
                &self.store,
                &self.link,
                target,
                options,
            )?))),
            Verb::Create => {
                let mut object = value()?;
                let mut store = self.store();
                complete(&mut store, &mut object);
                let created = store.create(&target.key(&object), object, &writer, dry_run)?;
                done(201, &created)
            }
            Verb::Update => done(
                200,
                &*self
                    .store()
                    .update(&target.key(&Value::Null), value()?, &writer, dry_run)?,
            ),
            Verb::Patch => match self.store().patch(
                &target.key(&Value::Null),
                options.patch(body)?,
                &writer,
                dry_run,
            )? {
                Written::Created(object) => done(201, &object),
                Written::Changed(object) => done(200, &object),
            },
            Verb::Delete => {
                let key = target.key(&Value::Null);
                let mut store = self.store();
                let object = store.delete(&key, &value()?, &writer, dry_run)?;
                // Kubernetes returns objects that still exist, and pods; for others it returns a
                // status.
                if store.stored(&key).is_some() || key.resource == resource::POD {
                    done(200, &object)
                } else {
                    done(200, &success(&key, &object))
                }
            }
            Verb::DeleteCollection => {
                let selector = options.selector(target)?;
                let wants = value()?;
                let mut store = self.store();
                let all = store
                    .all(target.resource)
                    .filter(|(_, object)| selector.matches(object));
                let keys: Vec<Key> = all.map(|(key, _)| key.clone()).collect();
                for key in &keys {
                    store.delete(key, &wants, &writer, dry_run)?;
                }
                done(
                    200,
                    &json!({ "kind": format!("{}List", target.resource.kind),
                        "apiVersion": target.resource.api_version(),
                    "metadata": {}, "items": [] }),
                )
            }
        }
    }

    fn list(&self, target: &Target, options: &Options) -> Result<Outcome, Refusal> {
        let selector = options.selector(target)?;
        let limit = options
            .number("limit")
            .and_then(|limit| usize::try_from(limit).ok());
        let stale = if options.has_value("resourceVersion", "0") {
            self.link.faults().stale
        } else {
            0
        };
        let mut store = self.store();
        let page = match options.value("continue") {
            Some(token) => store.list_on(token, limit)?,
            None if stale > 0 => store.list_stale(
                target.resource,
                |object| selector.matches(object),
                limit,
                stale,
            ),
            None => store.list(target.resource, |object| selector.matches(object), limit),
        };
        Ok(Outcome::Whole(
            200,
            list_body(target, &page, options.form()).into_bytes(),
        ))
    }
}

fn success(key: &Key, object: &Value) -> Value {
    let details = json!({ "name": key.name, "group": key.resource.group,
        "kind": key.resource.plural, "uid": object["metadata"]["uid"] });
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details })
}

/// Completes the name of an object that has only a prefix.
fn complete(store: &mut Store, object: &mut Value) {
    let metadata = &mut object["metadata"];
    if let Some(prefix) = metadata["generateName"].as_str()
        && metadata["name"].as_str().is_none_or(str::is_empty)
    {
        metadata["name"] = format!("{prefix}{:05}", store.next_identity()).into();
    }
}

fn list_body(target: &Target, page: &Page, form: Form) -> String {
    let (version, kind) = match form {
        Form::Whole => (
            target.resource.api_version(),
            format!("{}List", target.resource.kind),
        ),
        Form::Metadata => (
            "meta.k8s.io/v1".to_owned(),
            "PartialObjectMetadataList".to_owned(),
        ),
    };
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some(next) = &page.next {
        metadata["continue"] = next.clone().into();
        metadata["remainingItemCount"] = page.remaining.into();
    }
    let mut body = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    );
    for (n, item) in page.items.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        write!(body, "{comma}{}", shown(item, form)).expect("a string takes every text");
    }
    body.push_str("]}");
    body
}

fn broken_connection() -> BoxError {
    Box::new(std::io::Error::new(
        std::io::ErrorKind::ConnectionReset,
        "the connection broke",
    ))
}

fn whole(code: u16, body: Vec<u8>) -> Answer {
    let body = Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync();
    let answer = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    answer
        .body(body)
        .expect("a status and a header that are valid")
}

fn refused(refusal: &Refusal) -> Answer {
    let mut answer = whole(refusal.code, refusal.to_status().to_string().into_bytes());
    if let Some(seconds) = refusal.retry_after {
        answer.headers_mut().insert("retry-after", seconds.into());
    }
    answer
}

fn streamed(watching: Watching) -> Answer {
    let frames = futures::TryStreamExt::map_err(watching.into_stream(), BoxError::from);
    Response::new(StreamBody::new(frames).boxed_unsync())
}
