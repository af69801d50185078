//! The watches, as one stream of events. A watch that fails is restarted with backoff.

use std::fmt::Debug;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::observe::{WatchEvent, installers};

/// Watch events that are buffered; when the channel is full, the watches wait.
const CHANNEL_CAPACITY: usize = 1024;

/// Starts every watch.
pub(super) fn start_all(context: &Context) -> mpsc::Receiver<WatchEvent> {
    let (sender, receiver) = mpsc::channel(CHANNEL_CAPACITY);
    let client = &context.client;
    let everything = watcher::Config::default();
    let ours = watcher::Config::default().labels(&installers());
    let namespace = &context.settings.namespace;
    feed(
        Api::all(client.clone()),
        everything.clone(),
        &sender,
        WatchEvent::Runtime,
    );
    feed(
        Api::all(client.clone()),
        everything.clone(),
        &sender,
        WatchEvent::RuntimeNode,
    );
    feed(
        Api::<Node>::all(client.clone()),
        everything.clone(),
        &sender,
        WatchEvent::Node,
    );
    feed(
        Api::all(client.clone()),
        everything,
        &sender,
        WatchEvent::Class,
    );
    feed(
        Api::<Job>::namespaced(client.clone(), namespace),
        ours.clone(),
        &sender,
        WatchEvent::Job,
    );
    feed(
        Api::<Pod>::namespaced(client.clone(), namespace),
        ours,
        &sender,
        WatchEvent::Pod,
    );
    // Only Events show why a pod is not created or a volume is not mounted.
    let warnings = watcher::Config::default().fields("type=Warning");
    feed(
        Api::<Event>::namespaced(client.clone(), namespace),
        warnings,
        &sender,
        WatchEvent::Event,
    );
    receiver
}

/// Sends the events of a watch to `sender` until the receiver is dropped.
fn feed<K>(
    api: Api<K>,
    config: watcher::Config,
    sender: &mpsc::Sender<WatchEvent>,
    wrap: fn(watcher::Event<K>) -> WatchEvent,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let sender = sender.clone();
    tokio::spawn(async move {
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if sender.send(wrap(event)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        kind = std::any::type_name::<K>(),
                        %error,
                        "a watch failed; it is restarted"
                    );
                }
            }
        }
    });
}
